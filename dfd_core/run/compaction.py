"""Few large files in place of the many small ones that a long run commits."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.run.commit_log import CommitLog, delete_files, read_batches
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table
from dfd_core.storage.text import one_line

_MOST_FILES = 1000
_GROUP_BYTES, _FILE_BYTES = 16 << 20, 256 << 20


def compact(log: CommitLog, *, most_files: int = _MOST_FILES) -> int:
    """Merge the files of `log` into few where there are more than `most_files`; only while no run writes to it.

    The merged rows are committed before their originals go. If the process dies in between, rows are there twice,
    and every reader counts them once.

    Args:
        log: What is merged.
        most_files: Commits that are left as they are.

    Returns:
        The number of commits that were merged; 0 if there are no more than `most_files`.

    Raises:
        OutputError: A file cannot be read or written.
    """
    commits = log.commits()
    if len(commits) <= most_files:
        return 0
    files = sorted(file for group in commits.values() for file in group)
    name = f"merged_{uuid.uuid4().hex}"
    ids: list[pa.ChunkedArray] = []
    try:
        groups = _row_groups(read_batches(log.data.fs, files, log.schema))
        for group in _write_files(log.data / name, groups, log.schema):
            ids.append(group.column(0))
        column = log.schema.field(0)
        chunks = [chunk for array in ids for chunk in array.chunks]
        write_table(
            log.checkpoint / f"{name}.parquet",
            pa.table({column.name: pa.chunked_array(chunks, column.type)}),
        )
        delete_files(log.checkpoint.fs, [log.checkpoint_file(commit) for commit in commits])
        delete_files(log.data.fs, files)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The files of {log.data} cannot be merged: {one_line(error)}") from error
    return len(commits)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows of `batches` in tables of some megabytes, the last one less."""
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        held.append(batch)
        held_bytes += batch.nbytes
        if held_bytes >= _GROUP_BYTES:
            yield pa.Table.from_batches(held).combine_chunks()  # small batches take more than their rows
            held, held_bytes = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _write_files(stem: Address, groups: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Write `groups` to `STEM-00000.parquet` and so on, files of some hundred megabytes unpacked; yield each as written."""
    number, groups = 0, iter(groups)
    group = next(groups, None)
    while group is not None:
        in_file = 0
        file = f"{stem.path}-{number:05d}.parquet"
        with pq.ParquetWriter(file, schema, filesystem=stem.durable_fs, compression="zstd") as writer:
            while group is not None and in_file < _FILE_BYTES:
                writer.write_table(group)
                in_file += group.nbytes
                yield group
                group = next(groups, None)
        number += 1
