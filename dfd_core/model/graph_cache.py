"""Finished graphs on this machine's disk: a model is built once for each machine, not for each process."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

FOLDER_VARIABLE = "DFD_CACHE"
"""The environment variable that names another folder; set but empty, it turns keeping graphs off."""

_MAX_KEPT = 4
_PATIENCE_S = 300.0


def private_folder() -> Path | None:
    """Return the folder for this user's graphs, or None if graphs are not to be kept or cannot be.

    It is `DFD_CACHE`, else `dfd/graphs` under `XDG_CACHE_HOME` or `~/.cache`. TensorFlow runs what lies there, so the
    folder must belong to this user, and nobody else may write to it.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named == "":
        return None
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(named) if named else Path(base) / "dfd" / "graphs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    is_private = facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if is_private and os.access(folder, os.W_OK) else None


class KeptGraph:
    """One graph on disk. If its folder cannot be used, nothing is read and nothing is kept."""

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        """Take the folder, which is made when it is needed, and the graph's key."""
        self._folder = Path(folder)
        self._path = self._folder / f"{key}.pb"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the graph's lock while the block runs; other processes wait for it, at most five minutes."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, Timeout):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(FileLock(self._path.with_suffix(".lock"), timeout=_PATIENCE_S))
            yield

    def read(self) -> Any:
        """Return the GraphDef; None if none is kept or it cannot be read."""
        import tensorflow as tf
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            graph_def = tf.compat.v1.GraphDef.FromString(self._path.read_bytes())
            os.utime(self._path)  # marks it as used
        except (OSError, DecodeError):
            return None
        return graph_def

    def write(self, graph_def: Any) -> None:
        """Keep a GraphDef, written atomically, and remove all but the last ones used."""
        with contextlib.suppress(OSError):
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".graph-", delete=False) as file:
                file.write(graph_def.SerializeToString())
            os.replace(file.name, self._path)
            kept = sorted(self._folder.glob("*.pb"), key=lambda entry: entry.stat().st_mtime, reverse=True)
            for old in kept[_MAX_KEPT:]:
                old.unlink()
                old.with_suffix(".lock").unlink(missing_ok=True)
