"""The files of a folder or a glob, local or remote."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.fs as pafs

from dfd_core.errors import ManifestError
from dfd_core.sources.manifest import File
from dfd_core.sources.suffixes import is_video, suffix_of
from dfd_core.storage.address import Address
from dfd_core.storage.text import as_text, name_id
from dfd_core.storage.uri import NO_ADDRESS, can_join, is_remote, join_uri, local_uri, path_below

ALLOW_HTTP = "Web addresses are read only with --allow-http"
"""What to do about one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The videos of a place.

    Attributes:
        files: In the order of a walk, the files of a folder before those of its folders.
        skipped: Files that a folder held and that are not named like a video, counted by ending.
        unlisted: Folders, and files of a bucket, that could not be listed, with the reason.
        num_links: Of `files`, links to files elsewhere.
    """

    files: list[File]
    skipped: Counter[str] = field(default_factory=Counter)
    unlisted: tuple[str, ...] = ()
    num_links: int = 0


def walk_local(folder: str) -> Listing:
    """Return the videos below a local folder. Links to folders are named, not followed."""
    skipped: Counter[str] = Counter()
    unlisted: list[str] = []
    files: list[File] = []
    num_links = 0

    def cannot_list(error: OSError) -> None:
        unlisted.append(f"{error.filename}: {error.strerror}")

    for here, folders, names in os.walk(folder, onerror=cannot_list):
        folders.sort()
        links = [path for name in folders if os.path.islink(path := os.path.join(here, name))]
        unlisted += [f"{path}: a link to a folder" for path in links]
        for name in sorted(names):
            if is_video(name):
                path = os.path.join(here, name)
                files.append(local_file(path, name_id(os.path.relpath(path, folder))))
                num_links += os.path.islink(path)
            else:
                skipped[suffix_of(name)] += 1
    return Listing(files, skipped, tuple(as_text(reason) for reason in unlisted), num_links)


def walk_remote(source: str, fs: pafs.FileSystem, path: str) -> Listing:
    """Return the videos below the folder at the address `source`, `path` in its file system.

    Raises:
        OSError: The storage fails.
    """
    infos = _remote_infos(fs, path)
    files, unlisted = _remote_files(source, path, (info for info in infos if is_video(info.path)))
    skipped = Counter(suffix_of(info.path) for info in infos if not is_video(info.path))
    return Listing(files, skipped, unlisted)


def glob_remote(source: str, pattern: str) -> Listing:
    """Return the files that the address `source` matches, `pattern` in its file system.

    Raises:
        ManifestError: The pattern is in the name of the bucket or host.
        OSError: The storage fails.
    """
    from fsspec.utils import glob_translate

    address, mark, options = source.partition("?")
    folder = _fixed_part(address) + mark + options
    if not is_remote(folder):
        raise ManifestError(f"Expected a pattern below a bucket or host. Received: {source!r}")
    # As in a local pattern, ** beside other characters is *, and a / at the end asks for folders.
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.split("/")]
    matches = re.compile(glob_translate("/".join(parts) + "/" * address.endswith("/"))).match
    found = Address.parse(folder)
    infos = [info for info in _remote_infos(found.fs, found.path) if matches(info.path)]
    files, unlisted = _remote_files(folder, found.path, infos)
    return Listing(files, unlisted=unlisted)


def _remote_infos(fs: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    infos = fs.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    return [info for info in infos if info.type == pafs.FileType.File]


def _remote_files(
    source: str, folder: str, infos: Iterable[pafs.FileInfo]
) -> tuple[list[File], tuple[str, ...]]:
    """Return the files of `infos`, whose paths are below `folder` at `source`, and those that have no address."""
    files, unlisted = [], []
    for info in infos:
        name = path_below(info.path, folder)
        if can_join(source, name):
            files.append(remote_file(join_uri(source, name), info, name))
        else:
            unlisted.append(f"{info.path}: {NO_ADDRESS}")
    return sorted(files, key=_walk_order), tuple(unlisted)


def _walk_order(file: File) -> tuple[list[str], str]:
    """Return what sorts files as a walk over a local folder meets them: a folder's own before its folders'."""
    *folders, name = file.video_id.split("/")
    return folders, name


def glob_local(pattern: str) -> Listing:
    """Return the files that a local pattern matches, named relative to its part without wildcards."""
    root = os.path.abspath(_fixed_part(pattern))
    found = glob.glob(pattern, recursive=True, include_hidden=True)
    paths = {
        os.path.abspath(path) for path in found if not os.path.isdir(path)
    }  # ** beside ** finds files twice
    files = sorted(
        (local_file(path, name_id(os.path.relpath(path, root))) for path in paths), key=_walk_order
    )
    return Listing(files, num_links=sum(map(os.path.islink, paths)))


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    magic = next(position for position, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:magic]) or ("/" if pattern.startswith("/") else ".")


def local_file(path: str, video_id: str) -> File:
    """Return the local file at `path`, without its size and time if it cannot be looked at."""
    try:
        facts = os.stat(path)
    except OSError:
        return File(local_uri(path), video_id, None, None)
    return File(local_uri(path), video_id, facts.st_size, facts.st_mtime_ns)


def remote_file(uri: str, info: pafs.FileInfo, video_id: str) -> File:
    """Return the file at the address `uri`, of which a storage listed `info`."""
    return File(uri, video_id, info.size, info.mtime_ns)
