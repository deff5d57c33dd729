"""Local folders that are replaced in one step."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dfd_core.storage.durable import sync

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing_folder(path: str, *, keep_as: str | None = None) -> Iterator[str]:
    """Give a new folder beside the local `path`; it takes that place when the block ends, and goes if the block raises.

    A reader sees the old folder or the new one. What killed processes left beside is cleared away.

    Args:
        path: Absolute.
        keep_as: A new name for the old folder; None to delete what the block has not moved out of it.
    """
    parent, name = os.path.split(path)
    clear_left(path)
    new = os.path.join(parent, f".{name}.new-{uuid.uuid4().hex}")
    os.mkdir(new)
    handle = os.open(new, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks for folders
            fcntl.flock(handle, fcntl.LOCK_EX)  # a process that clears away sees that it is in use
        yield new
        sync(new)
        _put(new, path)
        if keep_as is not None:
            os.rename(new, keep_as)
        sync(parent)
    finally:
        os.close(handle)
        shutil.rmtree(new, ignore_errors=True)  # the old content, or what the block has left


def clear_left(path: str) -> None:
    """Put back or delete what a killed process left beside `path`."""
    for old in left_beside(path, "old"):
        if os.path.lexists(path):
            shutil.rmtree(old)
        else:
            os.rename(old, path)
    for new in left_beside(path, "new"):
        handle = os.open(new, os.O_RDONLY)
        try:
            with suppress(OSError):  # another process is writing it
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(new)
        finally:
            os.close(handle)


def left_beside(path: str, what: str) -> list[str]:
    """Return the folders that `replacing_folder` made beside `path`: `new` ones, or the `old` one set aside."""
    parent, name = os.path.split(path)
    ours = re.compile(rf"\.{re.escape(name)}\.{what}-[0-9a-f]{{32}}")
    with suppress(FileNotFoundError):
        return sorted(os.path.join(parent, entry) for entry in os.listdir(parent) if ours.fullmatch(entry))
    return []


def exchange(left: str, right: str) -> bool:
    """Exchange the names of two local files or folders in one step; return False where the system cannot.

    Raises:
        OSError: One of them is not there, or may not be renamed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(left), os.fsencode(right)
    if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), left)


def _put(new: str, path: str) -> None:
    """Give folder `new` the name `path`; an old folder of that name gets the name of `new`."""
    if not os.path.lexists(path):
        os.rename(new, path)
    elif not exchange(new, path):
        old = re.sub(r"\.new-(?=[0-9a-f]{32}$)", ".old-", new)
        os.rename(path, old)
        os.rename(new, path)
        os.rename(old, new)
