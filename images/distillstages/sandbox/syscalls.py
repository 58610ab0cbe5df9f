"""The system calls a submission may make, as a filter program for the kernel (seccomp). An allow-list.

A filter and not namespaces: a pod under the restricted Pod Security Standard may not create those, but may always give
up system calls. Source of the numbers: the kernel's asm/unistd_64.h and asm-generic/unistd.h; of the instructions:
Documentation/userspace-api/seccomp_filter.rst.

Three groups: allowed; fatal (SIGSYS, the verdict is Forbidden): new processes and programs, sockets, signals to others,
other processes' memory, kernel services with a history of escapes; everything else fails with EPERM. Files can be
opened for reading only (EROFS), so there is nothing to fill, to link or to swap.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import Final

KILL: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

# name: (x86-64, AArch64); None: that machine has no such call.
_ALLOWED: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, None), "pipe": (22, None),
    "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, None), "pause": (34, None), "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, None),
    "setitimer": (38, 103), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160), "getcwd": (79, 17),
    "readlink": (89, None), "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, None), "sigaltstack": (131, 132),
    "arch_prctl": (158, None), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "epoll_create": (213, None), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "restart_syscall": (219, 128), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94), "epoll_wait": (232, None),
    "epoll_ctl": (233, 21), "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59), "getcpu": (309, 168),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
_FATAL: Final[dict[str, tuple[int | None, int | None]]] = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "sendmsg": (46, 211), "recvmsg": (47, 212),
    "bind": (49, 200), "listen": (50, 201), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "ptrace": (101, 117), "rt_sigqueueinfo": (129, 138), "pivot_root": (155, 41), "chroot": (161, 51),
    "mount": (165, 40), "umount2": (166, 39), "init_module": (175, 105), "tkill": (200, 130), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "unshare": (272, 97), "accept4": (288, 242),
    "rt_tgsigqueueinfo": (297, 240), "perf_event_open": (298, 241), "setns": (308, 268), "kcmp": (312, 272),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "bpf": (321, 280), "execveat": (322, 281),
    "userfaultfd": (323, 282), "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OPEN, _OPENAT, _OPENAT2 = (2, None), (257, 56), (437, 437)
_OWN_PID: Final = {"kill": (62, 129), "tgkill": (234, 131)}
_FCNTL, _IOCTL, _PRCTL, _PRLIMIT = (72, 25), (16, 29), (157, 167), (302, 261)
_SOCKETPAIR, _SENDTO, _RECVFROM = (53, 199), (44, 206), (45, 207)

_CLONE_THREAD: Final = 0x10000
_OPEN_WRITES: Final = 0o3 | 0o100 | 0o1000  # O_WRONLY and O_RDWR, O_CREAT, O_TRUNC
_FCNTL_COMMANDS: Final = (0, 1, 2, 3, 4, 1030)  # DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC: none sends signals
_IOCTL_COMMANDS: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FION*, FIO*CLEX
_PRCTL_COMMANDS: Final = (15, 16)  # a thread's name; not PR_SET_DUMPABLE, not PR_SET_SECCOMP


@dataclass(frozen=True)
class _Machine:
    column: int
    architecture: int  # AUDIT_ARCH_…


MACHINES: Final = {"x86_64": _Machine(0, 0xC000003E), "aarch64": _Machine(1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _argument(index: int, high: bool = False) -> bytes:
    """Load half an argument (both machines are little-endian)."""
    return _op(_LOAD, 16 + 8 * index + (4 if high else 0))


def _answer(action: int) -> bytes:
    return _op(_RETURN, action)


def _when(numbers: tuple[int | None, int | None], machine: _Machine, body: bytes) -> bytes:
    """`body`, which must end in an answer, for one system call."""
    number = numbers[machine.column]
    return b"" if number is None else _op(_EQUAL, number, 0, len(body) // 8) + body


def _one_of(index: int, values: tuple[int, ...], otherwise: int) -> bytes:
    tests = b"".join(_op(_EQUAL, v, len(values) - position, 0) for position, v in enumerate(values))
    return _argument(index) + tests + _answer(otherwise) + _answer(ALLOW)


def program(machine: str, own_pid: int) -> bytes:
    """The filter for a process of that id as an array of struct sock_filter. KeyError: an unknown machine."""
    here = MACHINES[machine]
    out = _op(_LOAD, 4) + _op(_EQUAL, here.architecture, 1, 0) + _answer(KILL) + _op(_LOAD, 0)
    out += _op(_AT_LEAST, 0x40000000, 0, 1) + _answer(KILL)  # the x32 way of calling
    for numbers in _ALLOWED.values():
        out += _when(numbers, here, _answer(ALLOW))
    for numbers in _FATAL.values():
        out += _when(numbers, here, _answer(KILL))
    out += _when(_CLONE, here, _argument(0) + _op(_ANY_BIT, _CLONE_THREAD, 1, 0) + _answer(KILL) + _answer(ALLOW))
    unknown = _ERRNO | errno.ENOSYS  # a filter cannot look into their structures; the C library falls back
    out += _when(_CLONE3, here, _answer(unknown)) + _when(_OPENAT2, here, _answer(unknown))
    for call, index in ((_OPEN, 1), (_OPENAT, 2)):
        read_only = _op(_ANY_BIT, _OPEN_WRITES, 0, 1) + _answer(_ERRNO | errno.EROFS) + _answer(ALLOW)
        out += _when(call, here, _argument(index) + read_only)
    for call in _OWN_PID.values():
        out += _when(call, here, _one_of(0, (own_pid,), KILL))
    out += _when(_PRLIMIT, here, _one_of(0, (0, own_pid), KILL))
    commands = ((_FCNTL, 1, _FCNTL_COMMANDS), (_IOCTL, 1, _IOCTL_COMMANDS), (_PRCTL, 0, _PRCTL_COMMANDS))
    for call, index, values in commands:
        out += _when(call, here, _one_of(index, values, _ERRNO | errno.EPERM))
    # A connected pair of streams, which asyncio wakes itself with; a datagram could be sent to anybody.
    stream = _argument(0) + _op(_EQUAL, 1, 0, 4) + _argument(1) + _op(0x54, 0xF) + _op(_EQUAL, 1, 0, 1)
    out += _when(_SOCKETPAIR, here, stream + _answer(ALLOW) + _answer(KILL))
    nobody = _argument(4) + _op(_EQUAL, 0, 0, 2) + _argument(4, high=True) + _op(_EQUAL, 0, 1, 0)
    out += _when(_SENDTO, here, nobody + _answer(KILL) + _answer(ALLOW))
    out += _when(_RECVFROM, here, _answer(ALLOW))
    return out + _answer(_ERRNO | errno.EPERM)
