"""Local copies of remote files and folders, made once for each machine and version."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress

import pyarrow.fs as pafs
from filelock import FileLock

from dfd_core.storage.address import Address


def local_copy(address: Address) -> str:
    """Return a local path with what is at `address`: its own path, or that of a copy of a remote file or folder.

    A copy belongs to a version: path, size and modification time of the files.

    Raises:
        OSError: The storage cannot be read, or nothing is there.
    """
    if address.is_local:
        return address.path
    fs, path = address.fs, address.path
    info = fs.get_file_info(path)
    infos = [info] if info.type == pafs.FileType.File else fs.get_file_info(pafs.FileSelector(path))
    files = [file for file in infos if file.type == pafs.FileType.File]
    version = repr([address.uri, *((file.path, file.size, file.mtime_ns) for file in files)])
    name = "dfd-copy-" + hashlib.sha256(version.encode()).hexdigest()[:24]
    folder = os.path.join(_private_folder(), name)
    with FileLock(folder + ".lock"):  # the other workers of this machine wait for the one that copies
        if not os.path.isdir(folder):
            _copy_files(fs, [file.path for file in files], folder)
    return os.path.join(folder, address.name) if info.type == pafs.FileType.File else folder


def _private_folder() -> str:
    """Return a folder of this machine that nobody else can write to.

    Raises:
        OSError: Someone else has put something there.
    """
    folder = os.path.join(tempfile.gettempdir(), f"dfd-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder of this user alone")
    return folder


def _copy_files(fs: pafs.FileSystem, paths: Sequence[str], folder: str) -> None:
    """Copy files to a new local `folder`, which appears whole or not at all."""
    beside = tempfile.mkdtemp(prefix="part-", dir=os.path.dirname(folder))
    try:
        for path in paths:
            copy = os.path.join(beside, posixpath.basename(path))
            pafs.copy_files(path, copy, source_filesystem=fs)
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
