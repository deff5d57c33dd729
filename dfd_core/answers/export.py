"""The tables of a finished run in the formats of other programs. The programs' packages are not imported."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from dfd_core.answers import fiftyone, label_studio
from dfd_core.answers.video_rows import TABLES, read_video_rows, refuse_incomplete, table_batches
from dfd_core.errors import OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.text import one_line

FORMATS = ("csv", "jsonl", "fiftyone", "label-studio")


def export(out: OutputFolder, kind: str, folder: str) -> dict[str, int]:
    """Write the tables of a finished run to the local `folder`, and return how many files or tasks there are of each name.

    The folder is absent or empty; it appears when it is whole.

    Args:
        out: The output folder of the run.
        kind: One of `FORMATS`.
        folder: Where to write.

    Raises:
        OutputError: The run has no tables, or the folder cannot be written.
    """
    refuse_incomplete(out)
    target = _fresh(folder)
    beside = Path(f"{target}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        written = _WRITERS[kind](out, beside)
        if target.is_dir():
            target.rmdir()
        os.rename(beside, target)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {one_line(error.strerror or error)}") from error
    return written


def _fresh(folder: str) -> Path:
    address = Address.parse(folder)
    if not address.is_local:
        raise OutputError(f"Expected a local folder to export to. Received: {folder}")
    path = Path(address.path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{folder} is not an empty folder")
    return path


def _write_csv(out: OutputFolder, folder: Path) -> dict[str, int]:
    written = {}
    for name in TABLES:
        batches = map(_flat, table_batches(out, name))
        first = next(batches)
        with pa.csv.CSVWriter(str(folder / f"{name}.csv"), first.schema) as writer:
            written[name] = _written(writer.write_table, first, batches)
    return written


def _written(write: Callable[[pa.Table], None], first: pa.Table, others: Iterable[pa.Table]) -> int:
    rows = 0
    for table in (first, *others):
        write(table)
        rows += table.num_rows
    return rows


def _flat(table: pa.Table) -> pa.Table:
    """Return `table` with JSON text for values that a cell cannot hold."""
    for position, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            values = [
                None if value is None else as_json(value) for value in table.column(position).to_pylist()
            ]
            table = table.set_column(position, field.name, pa.array(values, pa.string()))
    return table


def _write_jsonl(out: OutputFolder, folder: Path) -> dict[str, int]:
    written = {}
    for name in TABLES:
        rows = 0
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for table in table_batches(out, name):
                file.writelines(f"{as_json(row)}\n" for row in table.to_pylist())
                rows += table.num_rows
        written[name] = rows
    return written


def _write_fiftyone(out: OutputFolder, folder: Path) -> dict[str, int]:
    (folder / "labels").mkdir()
    paths = {}
    for number, rows in enumerate(read_video_rows(out)):
        name = f"{number:07d}"
        paths[name] = rows.video["uri"]
        (folder / "labels" / f"{name}.json").write_text(
            as_json(fiftyone.video_labels(rows)), encoding="utf-8"
        )
    (folder / "data.json").write_text(as_json(paths), encoding="utf-8")
    return {"videos": len(paths)}


def _write_label_studio(out: OutputFolder, folder: Path) -> dict[str, int]:
    count = 0
    with open(folder / "tasks.json", "w", encoding="utf-8") as file:
        for rows in read_video_rows(out):
            file.write(("[\n" if count == 0 else ",\n") + as_json(label_studio.task(rows)))
            count += 1
        file.write("[]\n" if count == 0 else "\n]\n")
    (folder / "label_config.xml").write_text(label_studio.CONFIG, encoding="utf-8")
    return {"tasks": count}


_WRITERS = dict(zip(FORMATS, (_write_csv, _write_jsonl, _write_fiftyone, _write_label_studio), strict=True))


def as_json(value: Any) -> str:
    """Return `value` as JSON: non-finite floats are null, bytes base64, dates text.

    >>> as_json({"a": [1.5, float("nan")], "b": b"x"})
    '{"a": [1.5, null], "b": "eA=="}'
    """
    return json.dumps(_plain(value), default=str, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
