"""Submissions that would rather not solve their task, each with the verdicts it may get. The task: `double(2)` is 4,
which the submissions do not know; SECRET is in a file and in the judge's memory, PARENT is the judge's pid."""

# ruff: noqa: E501

from __future__ import annotations

SECRET = "the-expected-output-4711"
FORBIDDEN, RUNTIME, TIME, MEMORY, OUTPUT, WRONG = (
    {"Forbidden"}, {"RuntimeError"}, {"TimeLimit"}, {"MemoryLimit"}, {"OutputLimit"}, {"WrongOutput"},
)  # fmt: skip

_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_FAILED = "\nif result < 0: raise OSError(ctypes.get_errno(), 'refused')\n"

ATTACKS: dict[str, tuple[str, set[str]]] = {
    "a fork bomb": ("import os\nwhile True: os.fork()", FORBIDDEN),
    "a double fork": ("import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    while True: pass", FORBIDDEN),
    "a program": ("import os\nos.system('echo 4')", FORBIDDEN),
    "a process by the C library": (_LIBC + "libc.syscall(435, 0, 0); libc.fork()", FORBIDDEN),
    "multiprocessing": ("import subprocess\nsubprocess.run(['true'])", FORBIDDEN),
    "a thread bomb": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
        FORBIDDEN | RUNTIME | MEMORY | TIME,
    ),
    "a memory bomb": ("x = []\nwhile True: x.append(bytearray(1 << 20))", MEMORY),
    "a memory bomb that catches": (
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: pass",
        MEMORY | TIME,
    ),
    "memory in a file": (_LIBC + "result = libc.syscall(319, b'x', 0)" + _FAILED, RUNTIME),
    "an endless loop": ("while True: pass", TIME),
    "an endless loop in C": ("sum(range(1 << 62))", TIME),
    "an endless loop that catches": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        TIME,
    ),
    "a loop that ignores its signal": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        TIME,
    ),
    "sleeping forever": ("import time\ntime.sleep(1e6)", TIME),
    "stopping itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", TIME),
    "waiting for a lock": ("import threading\nthreading.Event().wait()", TIME),
    "errors without end": ("import os\nwhile True: os.write(2, b'x' * 65536)", OUTPUT | TIME),
    "the judge's environment": ("print(open('/proc/PARENT/environ').read())", RUNTIME),
    "the judge's memory": ("print(open('/proc/PARENT/mem', 'rb').read(1))", RUNTIME),
    "the judge's memory map": ("print(open('/proc/PARENT/maps').read())", RUNTIME),
    "the judge's files": ("import os\nprint(os.listdir('/proc/PARENT/fd'))", RUNTIME),
    "the judge's memory by a call": (
        _LIBC + "libc.process_vm_readv(PARENT, 0, 0, 0, 0, 0)",
        FORBIDDEN,
    ),
    "tracing the judge": (_LIBC + "libc.ptrace(16, PARENT, 0, 0)", FORBIDDEN),
    "a file with the answer": ("print(open('FILE').read())", RUNTIME),
    "the folders above": ("import os\nprint(open('../' * 20 + 'FILE').read(), os.listdir('..'))", RUNTIME),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 9400))", FORBIDDEN),
    "a name server": ("import socket\nsocket.gethostbyname('example.com')", FORBIDDEN),
    "a local socket": ("import socket\nsocket.socket(socket.AF_UNIX)", FORBIDDEN),
    "a datagram pair": ("import socket\nsocket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", FORBIDDEN),
    "a signal to the judge": ("import os, signal\nos.kill(PARENT, signal.SIGKILL)", FORBIDDEN),
    "a signal to all": ("import os, signal\nos.kill(-1, signal.SIGKILL)", FORBIDDEN),
    "a signal to the judge's group": ("import os, signal\nos.killpg(os.getpgid(PARENT), 9)", FORBIDDEN | RUNTIME),
    "a queued signal": (_LIBC + "libc.sigqueue(PARENT, 9, 0)", FORBIDDEN),
    "a signal by a file's owner": (
        "import fcntl, os\nfcntl.fcntl(0, fcntl.F_SETOWN, PARENT)\nfcntl.fcntl(0, 10, 9)",
        RUNTIME,
    ),
    "the judge's limits": ("import resource\nresource.prlimit(PARENT, resource.RLIMIT_CPU, (1, 1))", FORBIDDEN),
    "its own limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
        RUNTIME,
    ),
    "being looked into": (_LIBC + "result = libc.prctl(4, 1, 0, 0, 0)" + _FAILED, RUNTIME),
    "a namespace": (_LIBC + "libc.unshare(0x10000000)", FORBIDDEN),
    "a ring": (_LIBC + "libc.syscall(425, 1, 0)", FORBIDDEN),
    "a file of its own": ("open('x', 'w').write('4')", RUNTIME),
    "a file in /tmp": ("import tempfile\ntempfile.TemporaryFile()", RUNTIME),
    "a symbolic link": ("import os\nos.symlink('/etc/passwd', 'x')", RUNTIME),
    "a hard link": ("import os\nos.link('/etc/passwd', 'x')", RUNTIME),
    "a folder": ("import os\nos.mkdir('/tmp/x')", RUNTIME),
    "shared memory": (
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=9)",
        RUNTIME,
    ),
    "an exit": ("import os\nos._exit(0)", RUNTIME | WRONG),
    "a polite exit": ("import sys\nsys.exit(0)", RUNTIME | WRONG),
    "a signal to itself": ("import os\nos.abort()", RUNTIME),
    "a crash": ("import ctypes\nctypes.string_at(0)", RUNTIME),
    "no code at all": ("def", RUNTIME),
}

# What only a function can try; each defines `double`.
FORGERIES: dict[str, tuple[str, set[str]]] = {
    "equal to everything": (
        "class Yes(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef double(x): return Yes()",
        RUNTIME,
    ),
    "an object with a pickle": (
        "import os\nclass Bomb:\n    def __reduce__(self): return os.system, ('true',)\ndef double(x): return Bomb()",
        RUNTIME,
    ),
    "a false verdict": (
        'import os\ndef double(x):\n    for f in range(1, 20):\n        try: os.write(f, b\'{"d":[["end",{"t":["Passed",""]}]]}\\n\')\n'
        "        except OSError: pass\n    os._exit(0)",
        RUNTIME | WRONG,
    ),
    "answers before the questions": (
        'import os\nfor f in range(1, 20):\n    try: os.write(f, b\'{"d":[["value",true]]}\\n\' * 9)\n    except OSError: pass\n'
        "def double(x): return True",
        WRONG,
    ),
    "assertions that do nothing": (
        "import builtins\nbuiltins.AssertionError = None\nbuiltins.__build_class__ = None\ndef double(x): return 5",
        WRONG,
    ),
    "the tests' frames": (
        "import sys, gc\ndef double(x):\n    f = sys._getframe()\n    while f:\n        f.f_globals['check'] = f.f_globals['verdict'] = None\n"
        "        f = f.f_back\n    return 5",
        WRONG,
    ),
    "an exit from within": ("import os\ndef double(x): os._exit(0)", RUNTIME),
    "SystemExit": ("def double(x): raise SystemExit(0)", RUNTIME),
    "a failure that looks like a test's": ("def double(x): raise AssertionError", RUNTIME | WRONG),
    "nonsense": (
        "import os\nos.write(3, b'{}\\n[]\\n')\nos.write(4, b'{}\\n[]\\n')\ndef double(x): return 5",
        RUNTIME | WRONG,
    ),
    "a deep value": ("def double(x):\n    y = []\n    for _ in range(5000): y = [y]\n    return y", RUNTIME),
    "a great value": ("def double(x): return 'x' * (1 << 22)", OUTPUT),
    "not a number": ("def double(x): return float('nan')", WRONG),
    "stdout without end": ("def double(x):\n    while True: print('4' * 1000)", TIME),
}

PROGRAMS: dict[str, tuple[str, set[str]]] = {
    "endless output": ("while True: print('4' * 1000)", OUTPUT),
    "output and an exit": ('import os\nprint(\'{"verdict": "Passed"}\', flush=True)\nos._exit(0)', WRONG),
    "its own parent's output": ("import sys\nprint('5')\nsys.stdout.close()", WRONG | RUNTIME),
    "the right output and a failure": ("print(4)\nraise ValueError", RUNTIME),
}
