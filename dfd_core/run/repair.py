"""A log mended: what is damaged is set aside, what can be read is committed again, and the rest counts as not done."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.run.commit_log import CommitLog, read_ids
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists
from dfd_core.storage.tables import read_table
from dfd_core.storage.text import one_line


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done to a log.

    Attributes:
        files: Names of the files that were set aside.
        num_kept: Rows of damaged commits that could be read and were committed again.
    """

    files: tuple[str, ...] = ()
    num_kept: int = 0


def repair(log: CommitLog, quarantine: Address) -> Repair:
    """Mend `log`; only while no run writes to it.

    Every committed file is read whole. The rows of a damaged commit that can be read are committed again before its
    files are moved to `quarantine`; its other identifiers are then not committed, so that the next steps do them again.

    Args:
        log: What is mended.
        quarantine: A folder for the damaged files; made if something is damaged.

    Raises:
        OutputError: The storage fails.
    """
    try:
        damaged = {
            commit: files for commit, files in log.commits().items() if not _is_whole(log, commit, files)
        }
        kept = [rows for files in damaged.values() for file in files for rows in _readable_rows(log, file)]
        if kept:
            log.append(pa.concat_tables(kept))
        aside = []
        for commit, files in damaged.items():
            names = [log.checkpoint_file(commit), *files]  # a commit without its data does not count
            aside += [_set_aside(log, file, quarantine) for file in names]
    except OSError as error:
        raise OutputError(f"{log.data} cannot be repaired: {one_line(error)}") from error
    return Repair(tuple(aside), sum(rows.num_rows for rows in kept))


def repair_folder(out: OutputFolder) -> Repair:
    """Mend what a run keeps in `out` between its attempts; what is damaged is moved to a new folder in `out.quarantine`.

    Raises:
        OutputError: The storage fails.
    """
    quarantine = out.quarantine / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    plan, segments = (repair(log, quarantine) for log in (out.plan_log, out.segment_log))
    files = [*plan.files, *segments.files]
    if exists(out.attempts) and not _is_readable(out.attempts):
        set_aside(out.attempts, quarantine)
        files.append(out.attempts.name)
    return Repair(tuple(files), plan.num_kept + segments.num_kept)


def set_aside(file: Address, folder: Address) -> None:
    """Move a damaged file into `folder`.

    Raises:
        OutputError: It cannot be moved.
    """
    try:
        folder.fs.create_dir(folder.path, recursive=True)
        file.fs.move(file.path, (folder / file.name).path)
    except OSError as error:
        raise OutputError(f"{file} cannot be moved to {folder}: {one_line(error)}") from error


def _is_readable(table: Address) -> bool:
    try:
        read_table(table)
    except OutputError:
        return False
    return True


def _is_whole(log: CommitLog, commit: str, files: Sequence[str]) -> bool:
    """Return whether each row of a commit can be read, and each of its identifiers has its row."""
    try:
        ids = read_ids(log.checkpoint.fs, [log.checkpoint_file(commit)], log.id_column)
        found = [_read(log, file).column(0) for file in files]
    except (OSError, OutputError, pa.ArrowException):
        return False
    there = pa.chunked_array(found, pa.string())
    return bool(pc.all(pc.is_in(ids, value_set=there), min_count=0).as_py())


def _read(log: CommitLog, file: str) -> pa.Table:
    with log.data.fs.open_input_file(file) as opened:
        return _checked(log, pq.ParquetFile(opened, page_checksum_verification=True).read())


def _readable_rows(log: CommitLog, file: str) -> Iterator[pa.Table]:
    """Yield the row groups of a data file that can be read."""
    with suppress(OSError, pa.ArrowException), log.data.fs.open_input_file(file) as opened:
        parquet = pq.ParquetFile(opened, page_checksum_verification=True)
        for group in range(parquet.num_row_groups):
            with suppress(OSError, pa.ArrowException):
                yield _checked(log, parquet.read_row_group(group))


def _checked(log: CommitLog, rows: pa.Table) -> pa.Table:
    """Return rows as they are; raise ArrowInvalid if what was read is no table of the log."""
    rows.validate(full=True)
    if rows.column_names[0] != log.id_column or rows.column(0).null_count:
        raise pa.ArrowInvalid("not a table of this log")
    return rows


def _set_aside(log: CommitLog, file: str, quarantine: Address) -> str:
    is_data = posixpath.dirname(file) == log.data.path
    source = (log.data if is_data else log.checkpoint) / posixpath.basename(file)
    set_aside(source, quarantine / log.name / ("data" if is_data else "checkpoint"))
    return source.name
