"""Landlock: the kernel's own refusal of every file, TCP connection and signal that goes outside this process.

Source: Linux, Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_VERSION_FLAG = 1
_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""By version: reading, writing, making, linking, truncating, ... From version 5 on there are 16."""
_NETWORK_RIGHTS, _SCOPES = 0b11, 0b11


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has on, 0 if it has none."""
    try:
        return _syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def deny_everything(version: int) -> None:
    """Deny this thread everything that Landlock `version` knows, for good. Open descriptors stay open.

    Needs `no_new_privs`. Threads that exist already are not restricted.

    Raises:
        OSError: The kernel refuses.
    """
    handled = [(1 << _NUM_FILE_RIGHTS.get(version, 16)) - 1]
    if version >= 4:
        handled.append(_NETWORK_RIGHTS)
    if version >= 6:
        handled.append(_SCOPES)
    ruleset = struct.pack(f"={len(handled)}Q", *handled)  # with no rule in it, nothing handled is allowed
    descriptor = _syscall(_CREATE_RULESET, ruleset, len(ruleset), 0)
    try:
        _syscall(_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
