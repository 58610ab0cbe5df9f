"""What a child process gives up before it runs a line of a submission. Linux only.

In this order: resources (CPU seconds, address space, files, core dumps), capabilities, sight of it by others
(PR_SET_DUMPABLE), the file system but for Python's own (Landlock, where the kernel has it), system calls (seccomp).
None can be taken back.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Final

from distillstages.sandbox import syscalls

_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_STACK_BYTES: Final = 64 << 20
_OPEN_FILES: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)


class NoJail(Exception):
    """This machine cannot confine a submission; the message says why."""


def hide() -> None:
    """Nobody of the same user may look into this process (memory, environment, open files) or trace it."""
    _must(_libc.prctl(_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")


def die_with_parent(parent: int) -> None:
    """SIGKILL when the judge's thread ends, also when it has ended already."""
    _must(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)


def enter(cpu_seconds: float, memory_bytes: int) -> None:
    """Give everything up. `cpu_seconds` is counted from now; the kernel's limit is a whole second or two above it, the
    judge measures more finely. Raises NoJail."""
    machine = os.uname().machine
    if machine not in syscalls.MACHINES:
        known = ", ".join(syscalls.MACHINES)
        raise NoJail(f"no list of system calls for a {machine} machine; there is one for {known}")
    _resources(cpu_seconds, memory_bytes)
    root = os.geteuid() == 0
    _drop_capabilities(machine)
    hide()
    _must(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    if not _landlock() and root:
        raise NoJail("this kernel has no Landlock, so root's files cannot be hidden; run as another user than root")
    _seccomp(syscalls.program(machine, os.getpid()))


def _must(result: int, what: str) -> int:
    if result < 0:
        raise NoJail(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _resources(cpu_seconds: float, memory_bytes: int) -> None:
    cpu = math.ceil(time.process_time() + cpu_seconds) + 1
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_STACK, _STACK_BYTES),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_capabilities(machine: str) -> None:
    """All of them (root on a laptop has some, a pod of ours none)."""
    header, data = struct.pack("II", 0x20080522, 0), bytes(24)
    _must(_libc.syscall(_CAPSET[machine], header, data), "capset")


def _landlock() -> bool:
    """Only Python's own files and the C library's can be read; no signal and no socket leaves. False: not to be had."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    attributes = struct.pack("QQQ", (1 << rights) - 1, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _must(_libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    readable = {sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/localtime", "/dev/urandom", "/dev/null"}
    for name in sorted(readable):
        try:
            file = os.open(name, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = _READ_FILE | (_READ_DIR if Path(name).is_dir() else 0)
        rule = struct.pack("=Qi", rights, file)
        _must(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock_add_rule for {name}")
        os.close(file)
    _must(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _seccomp(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    _must(_libc.prctl(_SECCOMP, 2, filter_program, 0, 0), "PR_SET_SECCOMP")
