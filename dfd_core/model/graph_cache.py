"""Finished graphs on this machine's disk: a model is built once for each machine, not for each process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_MAX_KEPT = 4
_PATIENCE_S = 300.0


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
