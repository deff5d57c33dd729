"""What identifies the content of each input: its SHA-256, and in a store its ETag."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dfd_core.errors import RequestError
from dfd_core.schemas import INPUT_HASHES, to_table
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table

_CHUNK_BYTES = 4 << 20


def hash_inputs(requests: pa.Table, folder: Address) -> None:
    """Read the videos `requests` (REQUEST) whole and add their hashes (INPUT_HASHES) to `folder`.

    A video that cannot be read has none.

    Raises:
        OutputError: The folder cannot be written.
    """
    rows = list(_rows(requests))
    if rows:
        write_table(folder / f"{uuid.uuid4().hex}.parquet", to_table(rows, INPUT_HASHES))


def _rows(requests: pa.Table) -> Iterator[dict[str, Any]]:
    keys, uris = (requests.column(name).to_pylist() for name in ("plan_key", "uri"))
    for key, uri in zip(keys, uris, strict=True):
        try:
            yield {"plan_key": key, **_hashes(Address.parse(uri))}
        except (OSError, RequestError):  # the plan says why
            continue


def _hashes(address: Address) -> dict[str, str | None]:
    found = hashlib.sha256()
    with address.fs.open_input_stream(address.path) as stream:
        etag = stream.metadata().get("ETag") if not address.is_local else None
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
    return {
        "sha256": found.hexdigest(),
        "etag": etag.decode().strip('"') if etag else None,
    }
