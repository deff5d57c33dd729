"""The columns of a manifest file: CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.errors import ManifestError
from dfd_core.sources.columns import parts_of
from dfd_core.sources.manifest import refuse_rows
from dfd_core.storage.address import Address
from dfd_core.storage.files import read_bytes
from dfd_core.storage.text import as_text, one_line

_MOST_CELL_CHARACTERS = 1 << 24


def read_columns(source: str, suffix: str) -> pa.Table:
    """Return the columns of the manifest at `source`, a file of the kind that `suffix` names.

    Raises:
        ManifestError: It is not such a file; the message names the line where it can.
        OSError: The storage fails.
    """
    content = read_bytes(Address.parse(source))
    try:
        if suffix == "parquet":
            return pq.read_table(io.BytesIO(content))
        if suffix == "jsonl":
            return _json_lines(content.decode("utf-8-sig"))
        return _csv(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"Expected a manifest in UTF-8. Received: {one_line(error)}") from error
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise ManifestError(f"The manifest cannot be read as {suffix}: {one_line(error)}") from error


def _csv(text: str) -> pa.Table:
    csv.field_size_limit(max(_MOST_CELL_CHARACTERS, csv.field_size_limit()))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = (row for row in lines if row and not (len(row) == 1 and row[0].isspace()))
    try:
        header = next(rows, [])
        schema = pa.schema(
            [(name or f"Unnamed: {place}", pa.large_string()) for place, name in enumerate(header)]
        )
        batches, too_long, num_rows = [], [], 0
        for part in parts_of(rows):
            too_long += [num_rows + row for row, cells in enumerate(part) if len(cells) > len(header)]
            num_rows += len(part)
            if not too_long:
                whole = (cells + [None] * (len(header) - len(cells)) for cells in part)
                columns = [pa.array(column, pa.large_string()) for column in zip(*whole, strict=True)]
                batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    except csv.Error as error:
        raise ManifestError(f"Line {lines.line_num} of the manifest cannot be read: {error}") from error
    refuse_rows(too_long, "has more fields than the header")
    return pa.Table.from_batches(batches, schema)


def _json_lines(text: str) -> pa.Table:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"Line {number} of the manifest cannot be read: {one_line(error)}") from error
        if not isinstance(row, dict):
            raise ManifestError(
                f"Expected a JSON object on every line of the manifest. Received: line {number}"
            )
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _json_column(name, [row.get(name) for row in rows]) for name in names})


def _json_column(name: str, values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise ManifestError(
            f"The manifest's column {as_text(name)!r} cannot be read: {one_line(error)}"
        ) from error
