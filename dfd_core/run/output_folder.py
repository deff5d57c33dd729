"""The output folder: where each thing lies, and Parquet tables that a reader sees whole or not at all."""

from __future__ import annotations

import _thread
import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from dfd_core.errors import OutputError
from dfd_core.storage import address as storage
from dfd_core.storage.remote_lock import RemoteLock


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Addresses inside one output folder; `root` is a local path or a URI."""

    root: str

    @property
    def videos(self) -> str:
        """The user's table of videos."""
        return storage.join(self.root, "videos")

    @property
    def faces(self) -> str:
        """The user's table of faces."""
        return storage.join(self.root, "faces")

    @property
    def run_json(self) -> str:
        """What ran, with what, and how it ended."""
        return storage.join(self.root, "run.json")

    @property
    def profile(self) -> str:
        """Where one worker's time went, for speedscope."""
        return storage.join(self.root, "profile.speedscope.json")

    @property
    def manifest(self) -> str:
        """The manifest as this run reads it: MANIFEST and the user's own columns."""
        return storage.join(self.root, "plan", "manifest.parquet")

    @property
    def attempts(self) -> str:
        """How often each video was tried again: ATTEMPTS."""
        return storage.join(self.root, "plan", "attempts.parquet")

    @property
    def plans(self) -> str:
        """The log of VIDEO_PLAN rows; grows only."""
        return storage.join(self.root, "plan", "videos")

    @property
    def segment_list(self) -> str:
        """The SEGMENT rows of the present manifest."""
        return storage.join(self.root, "plan", "segments")

    @property
    def open_segments(self) -> str:
        """Those of `segment_list` that a resumed run has left to do."""
        return storage.join(self.root, "plan", "open_segments")

    @property
    def open_videos(self) -> str:
        """The REQUEST rows of the videos that this run has left to plan."""
        return storage.join(self.root, "plan", "open_videos.parquet")

    @property
    def results(self) -> str:
        """The log of SEGMENT_RESULT rows; grows only."""
        return storage.join(self.root, "segments")

    def checkpoint(self, stage: str) -> str:
        """Return where `stage` (`plan` or `segments`) keeps the identifiers that it has committed."""
        return storage.join(self.root, "checkpoint", stage)

    def locked(self, *, on_lost: Callable[[], None] = _thread.interrupt_main) -> FileLock | RemoteLock:
        """Return a context in which no other run may use the folder; creates the folder.

        A local folder is locked by the operating system, which frees it when the process dies. For a remote one see
        `remote_lock`.

        Args:
            on_lost: Called from a thread when another run has taken a remote folder over.

        Raises:
            OutputError: Another run has it, or it cannot be written.
        """
        fs, path = storage.filesystem(self.root)
        try:
            if not isinstance(fs, pafs.LocalFileSystem):
                fs.create_dir(path, recursive=True)
                remote = RemoteLock(storage.join(self.root, ".lock"), on_lost=on_lost)
                remote.acquire()
                return remote
            os.makedirs(path, exist_ok=True)
            lock = FileLock(os.path.join(path, ".lock"), timeout=0)
            lock.acquire()
        except (Timeout, OutputError) as error:
            raise OutputError(f"Another run is writing to {self.root}") from error
        except OSError as error:
            raise self._unusable(error) from error
        return lock

    def _unusable(self, error: OSError) -> OutputError:
        return OutputError(f"{self.root} cannot be written: {storage.refusal(self.root, error)}")

    def refuse_missing(self) -> None:
        """Check that the folder is there.

        Raises:
            OutputError: It is not.
        """
        if not storage.exists(self.root):
            raise OutputError(f"Nothing is at {self.root!r}")

    def refuse_foreign(self) -> None:
        """Check that the folder is absent, empty, or one of this program's.

        Raises:
            OutputError: It holds something that this program did not write.
        """
        fs, path = storage.filesystem(self.root)
        try:
            is_file = fs.get_file_info(path).type == pafs.FileType.File
            infos = [] if is_file else fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise self._unusable(error) from error
        if is_file:
            raise OutputError(f"{self.root} cannot be written: it is a file")
        # What a run that was killed while it wrote its first record has left is no one else's.
        names = [info.base_name for info in infos if not info.base_name.endswith(storage.PART_SUFFIX)]
        if "run.json" not in names and set(names) - {".lock"}:
            raise OutputError(
                f"{self.root} is not empty and holds no run.json: {', '.join(sorted(names)[:5])}"
            )

    def move_aside(self) -> str:
        """Rename the folder and return its new address, which has the time in it.

        An object store has no folders to rename: its objects are moved one by one, `run.json` last, so that the same
        command after an interruption moves the rest.

        Raises:
            OutputError: It cannot be renamed.
        """
        fs, path = storage.filesystem(self.root)
        suffix = f".{datetime.now(UTC):%Y%m%dT%H%M%S}"
        aside = path.rstrip("/") + suffix
        try:
            if isinstance(fs, pafs.LocalFileSystem):
                fs.move(path, aside)
            else:
                _move_files(fs, path, aside)
        except OSError as error:
            raise OutputError(f"{self.root} cannot be moved aside: {storage.one_line(error)}") from error
        base, mark, query = self.root.partition("?")
        return base.rstrip("/") + suffix + mark + query if storage.is_remote(self.root) else aside


def _move_files(fs: pafs.FileSystem, folder: str, aside: str) -> None:
    infos = fs.get_file_info(pafs.FileSelector(folder, recursive=True))
    names = [posixpath.relpath(info.path, folder) for info in infos if info.type == pafs.FileType.File]
    for name in sorted(names, key=lambda name: (name == "run.json", name)):
        target = posixpath.join(aside, name)
        if not isinstance(fs, pafs.S3FileSystem):
            fs.create_dir(posixpath.dirname(target), recursive=True)
        fs.move(posixpath.join(folder, name), target)
    fs.delete_dir(folder)


def dataset(folder: str, schema: pa.Schema) -> ds.Dataset:
    """Return the Parquet files directly in `folder` as one dataset of `schema`; empty if there are none."""
    fs, path = storage.filesystem(folder)
    files = parquet_files(fs, path)
    if not files:
        return ds.dataset(schema.empty_table())
    return ds.dataset(files, schema=schema, filesystem=fs, format="parquet")


def dataset_of_file(address: str, schema: pa.Schema) -> ds.Dataset:
    """Return the columns `schema` of the one Parquet file at `address`, unread.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    read_schema(address)
    fs, path = storage.filesystem(address)
    return ds.dataset([path], schema=schema, filesystem=fs, format="parquet")


def read_schema(address: str) -> pa.Schema:
    """Return the schema of the one Parquet file at `address`.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    fs, path = storage.filesystem(address)
    try:
        return pq.read_schema(path, filesystem=fs)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{address} cannot be read: {storage.one_line(error)}") from error


def read_table(address: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the one Parquet file at `address`, or those `columns` of it.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    fs, path = storage.filesystem(address)
    try:
        return pq.read_table(path, columns=columns, filesystem=fs, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{address} cannot be read: {storage.one_line(error)}") from error


def write_table(address: str, table: pa.Table) -> None:
    """Write `table` as the one Parquet file at `address`; a reader sees the old file or the new one.

    Raises:
        OutputError: It cannot be written.
    """
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    fs, path = storage.filesystem(address)
    try:
        fs.create_dir(posixpath.dirname(path), recursive=True)
        storage.write_bytes(address, content.getvalue().to_pybytes())
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {storage.one_line(error)}") from error


def num_bytes(folder: str) -> int:
    """Return the bytes of the files of `folder`; 0 if it is not there."""
    fs, path = storage.filesystem(folder)
    return sum(info.size or 0 for info in fs.get_file_info(pafs.FileSelector(path, allow_not_found=True)))


def parquet_files(fs: pafs.FileSystem, path: str) -> list[str]:
    """Return the paths of the Parquet files directly in folder `path`, sorted; none if it does not exist."""
    infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(
        info.path for info in infos if info.type == pafs.FileType.File and info.path.endswith(".parquet")
    )


def replace_table(
    folder: str, batches: Iterable[pa.Table], schema: pa.Schema, *, rows_per_file: int = 1_000_000
) -> int:
    """Write `batches` as the only Parquet files of `folder` and return the number of rows.

    On a local disk the folder is written beside and swapped in by renaming; on an object store the new files are
    written first and the old ones deleted after. There is always at least one file, so that an empty table has its
    schema too.

    Raises:
        OutputError: The folder cannot be written.
    """
    fs, path = storage.filesystem(folder)
    local = isinstance(fs, pafs.LocalFileSystem)
    target = path + ".new" if local else path
    try:
        old = [] if local else parquet_files(fs, path)
        if local:
            _delete_folder(fs, target)
        fs.create_dir(target, recursive=True)
        new, rows = _write_files(fs, target, batches, schema, rows_per_file)
        if local:
            _swap(fs, path)
        else:
            for file in set(old) - set(new):
                fs.delete_file(file)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {storage.one_line(error)}") from error
    return rows


def _write_files(
    fs: pafs.FileSystem, folder: str, batches: Iterable[pa.Table], schema: pa.Schema, rows_per_file: int
) -> tuple[list[str], int]:
    names: list[str] = []
    writer: pq.ParquetWriter | None = None
    rows = in_file = 0
    try:
        for batch in batches:
            if writer is None or in_file >= rows_per_file:
                if writer is not None:
                    writer.close()
                writer, in_file = _open_writer(fs, folder, schema, names), 0
            writer.write_table(batch)
            rows += batch.num_rows
            in_file += batch.num_rows
        if writer is None:
            writer = _open_writer(fs, folder, schema, names)
    finally:
        if writer is not None:
            writer.close()
    return names, rows


def _open_writer(fs: pafs.FileSystem, folder: str, schema: pa.Schema, names: list[str]) -> pq.ParquetWriter:
    names.append(posixpath.join(folder, f"part-{len(names):05d}.parquet"))
    return pq.ParquetWriter(names[-1], schema, filesystem=fs, compression="zstd")


def _swap(fs: pafs.FileSystem, path: str) -> None:
    _delete_folder(fs, path + ".old")
    if fs.get_file_info(path).type != pafs.FileType.NotFound:
        fs.move(path, path + ".old")
    fs.move(path + ".new", path)
    _delete_folder(fs, path + ".old")


def _delete_folder(fs: pafs.FileSystem, path: str) -> None:
    if fs.get_file_info(path).type == pafs.FileType.Directory:
        fs.delete_dir(path)
