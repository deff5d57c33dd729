"""Long columns and lists, read a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from dfd_core.errors import ManifestError

_ROWS_AT_ONCE = 1 << 16
_Item = TypeVar("_Item")


def texts_of(given: pa.Table, name: str) -> Iterator[str]:
    """Yield the values of a column as text, empty for null.

    Raises:
        ManifestError: The column is not text.
    """
    try:
        texts = given.column(name).cast(pa.string())
    except pa.ArrowException as error:
        raise ManifestError(f"Expected text in the manifest's column {name!r}") from error
    return (value or "" for value in values_of(texts))


def values_of(column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield the values of a column, made Python's a part at a time."""
    for start in range(0, len(column), _ROWS_AT_ONCE):
        yield from column.slice(start, _ROWS_AT_ONCE).to_pylist()


def parts_of(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Yield `items` in lists of some ten thousand."""
    rest = iter(items)
    while part := list(islice(rest, _ROWS_AT_ONCE)):
        yield part
