"""A disk that forgets what was not synced: a copying shim over `os.fsync` for one folder.

Of a crash it leaves what a file system may leave: names whose folder was synced, contents whose file was synced, and of everything
else the old state, the new state, or a part of it, by chance.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Names = dict[str, int]


class PowerLoss(BaseException):
    """The power went; nothing that the process does afterwards reaches the disk."""


class ForgetfulDisk:
    """What of a folder is on the disk for certain, kept up to date with every `os.fsync`."""

    def __init__(self, root: Path, *, syncs_left: int | None = None) -> None:
        """Watch `root`; the power goes instead of the sync after `syncs_left` more."""
        self.root = root
        self.num_syncs = 0
        self._syncs_left = syncs_left
        self._lock = threading.Lock()
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, Names] = {}
        self._at_crash: tuple[dict[str, Names], dict[int, bytes]] | None = None
        self._kept_inodes = root.with_name(root.name + ".inodes")
        self._kept_inodes.mkdir()
        for folder, names, contents in _live(root):
            self._keep(root / folder, names)
            self._contents |= contents

    @property
    def has_crashed(self) -> bool:
        """Whether the power went."""
        return self._at_crash is not None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the syncs of this process in the block."""
        real = os.fsync

        def fsync(handle: int) -> None:
            number = handle if isinstance(handle, int) else handle.fileno()
            real(number)
            with self._lock:
                self._synced(Path(os.readlink(f"/proc/self/fd/{number}")), number)

        os.fsync = fsync
        try:
            yield
        finally:
            os.fsync = real

    def _synced(self, path: Path, number: int) -> None:
        if self.has_crashed:
            raise PowerLoss
        if not path.is_relative_to(self.root):
            return
        if self._syncs_left == self.num_syncs:
            self._freeze()
            raise PowerLoss
        self.num_syncs += 1
        if path.is_dir():
            self._keep(path, _names_in(path))
        else:
            self._contents[os.fstat(number).st_ino] = path.read_bytes() if path.exists() else b""

    def _keep(self, folder: Path, names: Names) -> None:
        """Note the synced names, and link their files, so that no new file gets the inode of a deleted one."""
        self._names[_inside(folder, self.root)] = names
        for name, inode in names.items():
            with suppress(FileExistsError, FileNotFoundError):
                os.link(folder / name, self._kept_inodes / str(inode))

    def _freeze(self) -> None:
        names: dict[str, Names] = {}
        contents: dict[int, bytes] = {}
        for folder, found, content in _live(self.root):
            names[folder] = found
            contents |= content
        self._at_crash = names, contents

    def leave(self, target: Path, chance: random.Random) -> int:
        """Write what is left of the folder to the new folder `target` and return how many files are not whole."""
        assert self._at_crash is not None
        live_names, live = self._at_crash
        torn = 0
        for folder in sorted(set(live_names) | set(self._names)):
            synced, now = self._names.get(folder, {}), live_names.get(folder, {})
            for name in sorted(set(synced) | set(now)):
                inode = synced.get(name) if chance.random() < 0.5 else now.get(name)
                if name in synced and synced.get(name) == now.get(name):
                    inode = synced[name]
                if inode is None:
                    continue
                whole = live.get(inode) if inode in live else self._contents.get(inode, b"")
                kept = self._kept(inode, whole, chance)
                torn += kept != whole
                (target / folder).mkdir(parents=True, exist_ok=True)
                (target / folder / name).write_bytes(kept)
        return torn

    def _kept(self, inode: int, whole: bytes, chance: random.Random) -> bytes:
        """Return what is left of a file: all of what was synced, and of the rest nothing, a part, zeros or all."""
        synced = self._contents.get(inode)
        if synced == whole:
            return whole
        least = len(synced) if synced is not None and whole.startswith(synced) else 0
        size = chance.choice([least, len(whole), chance.randint(least, len(whole))])
        if chance.random() < 0.3:
            return whole[:least] + b"\0" * (size - least)
        return whole[:size]


def _live(root: Path) -> Iterator[tuple[str, Names, dict[int, bytes]]]:
    """Yield each folder with the inodes of its files, and their contents."""
    for here, _, _ in os.walk(root):
        names = _names_in(Path(here))
        contents = {inode: (Path(here) / name).read_bytes() for name, inode in names.items()}
        yield _inside(Path(here), root), names, contents


def _names_in(folder: Path) -> Names:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries if entry.is_file(follow_symlinks=False)}


def _inside(path: Path, root: Path) -> str:
    return "" if path == root else str(path.relative_to(root))
