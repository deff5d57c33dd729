"""A row on its way out of the child: JSON, and the bytes of its pictures behind it. Reading it can execute nothing.

Arrow's own stream format was not taken: its buffers may be compressed, so that a small answer can ask its reader for any
amount of memory. Here nothing grows beyond what was sent.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from dfd_core.errors import UnexpectedError, VideoCrashedError, VideoError, VideoOutOfMemoryError

Row = dict[str, Any]
_LENGTH = struct.Struct("!I")
_BYTES = "$bytes"
MAX_HEAD_BYTES = 64 << 20
_MAX_CONTAINERS = 2_000_000
"""Lists and objects in an answer: each takes many times its two characters in memory."""
_KINDS = {error.kind: error for error in VideoError.__subclasses__()}


def encoded_answer(answer: Row | VideoError, *, max_bytes: int) -> list[bytes]:
    """Return the parts of a message that holds a row, or the error that took its place."""
    try:
        parts = _encoded({"row": answer} if isinstance(answer, dict) else _as_json(answer))
    except (TypeError, ValueError) as fault:
        parts = _encoded(_as_json(UnexpectedError(f"The row cannot be passed on without pickle: {fault}")))
    if len(parts[1]) > MAX_HEAD_BYTES or sum(map(len, parts)) > max_bytes:
        limit_mb = max_bytes / 1e6
        refusal = VideoOutOfMemoryError(
            f"The faces of the segment take more than {limit_mb:.0f} MB: --segment-s cuts shorter"
        )
        parts = _encoded(_as_json(refusal))
    return parts


def _as_json(error: VideoError) -> Row:
    return {"error": [error.kind, str(error)]}


def _encoded(value: Row) -> list[bytes]:
    pictures: list[bytes] = []

    def default(other: Any) -> Any:
        if isinstance(other, bytes):
            pictures.append(other)
            return {_BYTES: len(other)}
        if isinstance(other, np.generic | np.ndarray):
            return other.tolist()
        raise TypeError(f"{type(other).__name__} is no value of a row")

    head = json.dumps(value, default=default, separators=(",", ":")).encode()
    return [_LENGTH.pack(len(head)), head, *pictures]


def decoded_answer(content: bytes | bytearray | memoryview) -> Row:
    """Return the row in a message of the child.

    Raises:
        VideoError: The error that the child reported; `VideoCrashedError` if the message is not what a child of ours sends.
    """
    try:
        answer = _decoded(memoryview(content))
        if set(answer) == {"row"} and isinstance(answer["row"], dict):
            return answer["row"]
        kind, message = answer["error"]
        error: VideoError = _KINDS[kind](str(message))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, struct.error) as fault:
        raise nonsense() from fault
    raise error


def nonsense() -> VideoCrashedError:
    """Return the error of a child that sends what no child of ours sends."""
    return VideoCrashedError("The decoding process sent an answer that cannot be read")


def _decoded(content: memoryview) -> Any:
    (length,) = _LENGTH.unpack(content[: _LENGTH.size])
    head = bytes(content[_LENGTH.size :][:length])
    if length > min(MAX_HEAD_BYTES, len(content)) or head.count(b"[") + head.count(b"{") > _MAX_CONTAINERS:
        raise ValueError("more than any row takes")
    rest = content[_LENGTH.size + length :]

    def picture(value: Row) -> Any:
        nonlocal rest
        if set(value) != {_BYTES}:
            return value
        size = value[_BYTES]
        if not (isinstance(size, int) and 0 <= size <= len(rest)):
            raise ValueError("more bytes than were sent")
        taken, rest = bytes(rest[:size]), rest[size:]
        return taken

    return json.loads(head, object_hook=picture)
