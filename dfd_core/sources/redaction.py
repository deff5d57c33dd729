"""The user's own columns, without the secrets of addresses in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.sources.columns import parts_of, values_of
from dfd_core.storage.secrets import ADDRESS_MARKS, redacted


def redacted_columns(given: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return `given` with its columns `names` redacted, whatever they nest. Other values stay as they are."""
    for name in names:
        where = given.schema.get_field_index(name)
        column = given.column(where)
        if _may_hold_addresses(column):
            kind = column.type
            parts = (
                pa.array([_redacted(value) for value in part], kind) for part in parts_of(values_of(column))
            )
            given = given.set_column(where, given.schema.field(where), pa.chunked_array(parts, kind))
    return given


def _may_hold_addresses(column: pa.ChunkedArray) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = column.cast(kind)
        return any(
            pc.any(pc.match_substring(texts, mark, ignore_case=True)).as_py() for mark in ADDRESS_MARKS
        )
    return bool(pa.types.is_nested(kind))


def _redacted(value: Any) -> Any:
    """Return a value with all text in it redacted; maps come as lists of pairs."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: _redacted(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_redacted(part) for part in value]
    return tuple(map(_redacted, value)) if isinstance(value, tuple) else value
