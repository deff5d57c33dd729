"""The one way from rows to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return `rows` as a table of exactly `schema`.

    Raises:
        ValueError: A row lacks a field, has one that the schema does not know, or holds null where it may not.
    """
    names = set(schema.names)
    for position, row in enumerate(rows):
        if row.keys() != names:
            missing, unknown = sorted(names - row.keys()), sorted(row.keys() - names)
            raise ValueError(
                f"Expected the schema's fields. Received: row {position} lacks {missing}, adds {unknown}"
            )
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in schema]
    return check(pa.Table.from_arrays(columns, schema=schema), schema)


def check(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` if it is exactly of `schema`, nulls included.

    Raises:
        ValueError: The schemas differ, or a field that must hold a value is null.
    """
    if not table.schema.equals(schema):
        raise ValueError(f"Expected schema: {schema}\nReceived: {table.schema}")
    for field in schema:
        for chunk in table.column(field.name).chunks:
            _check_nulls(chunk, field)
    return table


def _check_nulls(values: Any, field: Any) -> None:
    if not field.nullable and values.null_count:
        raise ValueError(f"Expected a value in every {field.name!r}. Received: {values.null_count} null")
    if pa.types.is_list(field.type):
        _check_nulls(values.flatten(), field.type.value_field)
    elif pa.types.is_struct(field.type):
        present = values.drop_null() if values.null_count else values
        for position, child in enumerate(field.type):
            _check_nulls(present.field(position), child)
