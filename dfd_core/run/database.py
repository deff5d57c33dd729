"""DuckDB as the jobs use it: little memory whatever the size of the archive, and the rest on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

_MEMORY = "512MB"
_MOST_THREADS = 4  # each needs its share of the memory; the queries wait for the Parquet files anyway


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give an empty database in memory, which spills to a folder of its own under the system's temporary one."""
    with (
        tempfile.TemporaryDirectory(prefix="dfd-database-") as spill,
        duckdb.connect(
            config={
                "temp_directory": spill,
                "memory_limit": _MEMORY,
                "threads": min(_MOST_THREADS, os.cpu_count() or 1),
                "preserve_insertion_order": False,
            }
        ) as db,
    ):
        yield db
