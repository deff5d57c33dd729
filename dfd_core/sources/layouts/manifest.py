"""A dataset → the manifest of its videos, and the report of its disagreements."""

from __future__ import annotations

import io
import json
import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.schemas import to_table
from dfd_core.sources.layouts.tree import Dataset, Disagreement
from dfd_core.sources.suffixes import MANIFEST_SUFFIXES, suffix_of
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, is_text, name_id, one_line
from dfd_core.storage.uri import is_remote, join_uri, local_path, local_uri

LABELLED = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("uri", "video_id")]
    + [
        pa.field(name, pa.string())
        for name in ("label", "group", "dataset", "method", "compression", "split")
    ]
)
"""The manifest that a dataset becomes; `dfd_core.sources.videos.read_videos` reads it."""


def manifest_of(dataset: Dataset, root: str, out: str) -> pa.Table:
    """Return the manifest of `dataset` as a table of LABELLED.

    Args:
        dataset: What was read below `root`.
        root: The folder that the paths are relative to.
        out: Where the manifest will be. If that is inside a local `root`, or in a folder above it, the addresses are
            relative to the manifest's folder, so that both can be moved together; otherwise they are absolute.
    """
    names = [name for name in LABELLED.names if name not in ("uri", "video_id")]
    rows = []
    for video in dataset.videos:
        facts = {name: _id(getattr(video, name)) for name in names}
        rows.append({"uri": _uri(root, video.path, out), "video_id": _id(video.path), **facts})
    return to_table(rows, LABELLED)


def _id(value: str | None) -> str | None:
    return None if value is None else name_id(value)


def _text(value: str | None) -> str | None:
    return None if value is None else as_text(value)


def _uri(root: str, path: str, out: str) -> str:
    whole = join_uri(root, path)
    if is_remote(root):
        return whole
    top, folder = os.path.abspath(local_path(root)), os.path.dirname(os.path.abspath(out))
    near = not is_remote(out) and os.path.commonpath([top, folder]) in (top, folder)
    relative = os.path.relpath(os.path.join(top, path), folder)
    return relative if near and is_text(relative) else local_uri(whole)


def check_out(out: str) -> None:
    """Check that a manifest can be called `out`.

    Raises:
        OutputError: Its ending is none of a manifest's.
    """
    if suffix_of(out) not in MANIFEST_SUFFIXES:
        endings = ", ".join(f".{suffix}" for suffix in MANIFEST_SUFFIXES)
        raise OutputError(f"Expected a manifest that ends in {endings}. Received: {as_text(out)!r}")


def write_manifest(table: pa.Table, out: str) -> None:
    """Write `table` at `out`, as its ending says.

    Raises:
        OutputError: `out` cannot be written, or has another ending.
    """
    check_out(out)
    if suffix_of(out) == "csv":
        content = table.to_pandas().to_csv(index=False, lineterminator="\n").encode()
    elif suffix_of(out) == "jsonl":
        content = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    else:
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        content = buffer.getvalue()
    _write(out, content)


def write_report(dataset: Dataset, out: str) -> None:
    """Write every disagreement of `dataset` at `out`, as JSON.

    Raises:
        OutputError: `out` cannot be written.
    """
    names = Disagreement.__slots__
    found = [{name: _text(getattr(item, name)) for name in names} for item in dataset.disagreements]
    counts = Counter(item.kind for item in dataset.disagreements)
    report = {"num_videos": len(dataset.videos), "counts": counts, "disagreements": found}
    _write(out, json.dumps(report, indent=1).encode())


def _write(out: str, content: bytes) -> None:
    try:
        if not is_remote(out):
            os.makedirs(os.path.dirname(os.path.abspath(local_path(out))), exist_ok=True)
        write_bytes(Address.parse(out), content)
    except OSError as error:
        raise OutputError(f"{as_text(out)} cannot be written: {one_line(error)}") from error
