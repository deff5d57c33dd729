"""A system-call filter: an allow-list, assembled as a BPF program without a library.

What a decoder needs is memory, time, its open descriptors and its own end. Everything else fails with EPERM: opening
files, sockets, programs, processes, threads, executable memory, tracing, signals to others. Calls younger than the list
fail with ENOSYS, because the C library then falls back to older ones.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst and the kernel's system-call tables.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

_X86_64, _ARM64 = "x86_64", "aarch64"
_AUDIT_ARCH = {_X86_64: 0xC000003E, _ARM64: 0xC00000B7}
_SECCOMP_CALL = {_X86_64: 317, _ARM64: 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

_ALLOWED = {
    # name: (x86_64, aarch64); None where the architecture has no such call
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fstat": (5, 80),
    "futex": (202, 98),
    "get_robust_list": (274, 100),
    "getcpu": (309, 168),
    "getcwd": (79, 17),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readv": (19, 65),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigpending": (127, 136),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigtimedwait": (128, 137),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "select": (23, None),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "set_robust_list": (273, 99),
    "shutdown": (48, 210),
    "sigaltstack": (131, 132),
    "sysinfo": (99, 179),
    "time": (201, None),
    "times": (100, 153),
    "uname": (63, 160),
    "write": (1, 64),
    "writev": (20, 66),
}
_FCNTL, _KILL, _TGKILL = (72, 25), (62, 129), (234, 131)
_MMAP, _MPROTECT, _PRLIMIT = (9, 222), (10, 226), (302, 261)
_FCNTL_COMMANDS = (1, 2, 3, 4)  # F_GETFD, F_SETFD, F_GETFL, F_SETFL
_PROT_EXEC = 4
_FIRST_UNKNOWN = 424
"""Calls from this number on are younger than the list, on every architecture."""
_X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _FAIL, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000

_Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand; as in `struct sock_filter`."""


def is_known_machine() -> bool:
    """Return whether the filter can be made for this machine's architecture and system."""
    return platform.system() == "Linux" and platform.machine() in _AUDIT_ARCH


def install_filter() -> None:
    """Let this process, with all its threads, do only what the list allows, for good.

    Needs `no_new_privs`, or the right to administer the system.

    Raises:
        OSError: The kernel refuses.
    """
    program = b"".join(struct.pack("=HBBI", *step) for step in _program(platform.machine(), os.getpid()))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SECCOMP_CALL[platform.machine()]
    if libc.syscall(ctypes.c_long(number), _SET_MODE_FILTER, _ALL_THREADS, header) != 0:
        code = ctypes.get_errno() or errno.ESRCH  # a positive result names a thread that cannot be confined
        raise OSError(code, os.strerror(code))


def _program(machine: str, pid: int) -> Iterator[_Instruction]:
    column = 0 if machine == _X86_64 else 1
    yield (_LOAD, 0, 0, _ARCH_AT)
    yield (_EQUAL, 1, 0, _AUDIT_ARCH[machine])
    yield (_RETURN, 0, 0, _KILL_PROCESS)
    yield (_LOAD, 0, 0, _NUMBER_AT)
    if machine == _X86_64:
        yield from _if((_AT_LEAST, _X32_BIT), [_fail()])
    for numbers in _ALLOWED.values():
        if (number := numbers[column]) is not None:
            yield from _if((_EQUAL, number), [_allow()])
    for number in (_KILL[column], _TGKILL[column]):  # itself: abort() does that
        yield from _if((_EQUAL, number), _where_argument(0, [pid]))
    yield from _if((_EQUAL, _FCNTL[column]), _where_argument(1, _FCNTL_COMMANDS))
    for number in (_MMAP[column], _MPROTECT[column]):
        executable = [_argument(2), (_ANY_BIT, 0, 1, _PROT_EXEC), _fail(), _allow()]
        yield from _if((_EQUAL, number), executable)
    yield from _if((_EQUAL, _PRLIMIT[column]), _where_null(2))  # reading a limit, not setting one
    yield from _if((_AT_LEAST, _FIRST_UNKNOWN), [_fail(errno.ENOSYS)])
    yield _fail()


def _if(test: tuple[int, int], then: list[_Instruction]) -> list[_Instruction]:
    """Return a test of what was loaded last, and what follows if it holds, which must end with a return."""
    return [(test[0], 0, len(then), test[1]), *then]


def _where_argument(position: int, values: list[int] | tuple[int, ...]) -> list[_Instruction]:
    """Return steps that allow the call if an argument's lower half is one of `values`."""
    tests = [step for value in values for step in _if((_EQUAL, value), [_allow()])]
    return [_argument(position), *tests, _fail()]


def _where_null(position: int) -> list[_Instruction]:
    low, high = _argument(position), _argument(position, upper=True)
    return [low, (_EQUAL, 0, 3, 0), high, (_EQUAL, 0, 1, 0), _allow(), _fail()]


def _argument(position: int, *, upper: bool = False) -> _Instruction:
    return (
        _LOAD,
        0,
        0,
        _ARGUMENTS_AT + 8 * position + (4 if upper else 0),
    )  # both machines are little-endian


def _allow() -> _Instruction:
    return (_RETURN, 0, 0, _ALLOW)


def _fail(code: int = errno.EPERM) -> _Instruction:
    return (_RETURN, 0, 0, _FAIL | code)
