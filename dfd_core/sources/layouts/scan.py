"""The files below a folder, local or remote, and the text of the lists among them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

import pyarrow.fs as pafs

from dfd_core.errors import ManifestError
from dfd_core.sources.layouts import celeb_df, dfdc, faceforensics
from dfd_core.sources.layouts.tree import Disagreement, Tree
from dfd_core.storage.address import Address
from dfd_core.storage.files import read_bytes
from dfd_core.storage.text import as_text, one_line
from dfd_core.storage.uri import NO_ADDRESS, can_join, path_below


def scan(root: str) -> Tree:
    """Return the files below `root`, a local folder or a remote one, and the text of the lists among them.

    Raises:
        ManifestError: `root` is no folder, or cannot be listed.
        RequestError: Its address has credentials in it, or no storage is known for it.
    """
    address = Address.parse(root)
    fs, top = address.fs, address.path
    faults: list[Disagreement] = []
    try:
        if fs.get_file_info(top).type != pafs.FileType.Directory:
            raise ManifestError(f"Expected a folder. Received: {as_text(root)!r}")
        local = address.is_local
        paths = sorted(_walk(top, faults) if local else _walk_remote(fs, top, root, faults))
    except OSError as error:
        message = f"{as_text(root)!r} cannot be listed: {one_line(error)}"
        raise ManifestError(message) from error
    texts = {}
    for path in sorted(set().union(*(layout.lists(paths) for layout in (celeb_df, faceforensics, dfdc)))):
        try:
            texts[path] = read_bytes(address / path).decode("utf-8-sig", "replace")
        except OSError as error:
            faults.append(Disagreement("unreadable_list", path, one_line(error)))
    return Tree(posixpath.basename(top.rstrip("/")) or "root", tuple(paths), texts, tuple(faults))


def _walk(top: str, faults: list[Disagreement]) -> Iterator[str]:
    def unlisted(error: OSError) -> None:
        path = os.path.relpath(error.filename, top)
        faults.append(Disagreement("unlisted_folder", path, str(error.strerror)))

    for here, folders, names in os.walk(top, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = "" if here == top else os.path.relpath(here, top) + "/"
        for name in folders:
            if os.path.islink(os.path.join(here, name)):
                faults.append(Disagreement("unlisted_folder", below + name, "a link to a folder"))
        yield from (below + name for name in names if not name.startswith("."))


def _walk_remote(fs: pafs.FileSystem, top: str, root: str, faults: list[Disagreement]) -> Iterator[str]:
    for info in fs.get_file_info(pafs.FileSelector(top, recursive=True)):
        path = path_below(info.path, top)
        if info.type != pafs.FileType.File or any(part.startswith(".") for part in path.split("/")):
            continue
        if can_join(root, path):
            yield path
        else:
            faults.append(Disagreement("unlisted_file", path, NO_ADDRESS))
