"""What a taken-over decoding process sends to its parent: each is what no child of ours sends."""

from __future__ import annotations

import gc
import json
import os
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.prey import Prey
from dfd_core.stages.sandbox.channel import ANSWER, HEADER, RANGE, READ, ChildChannel

_FLOOD_MB = 1500


class _Shell:
    """Runs a command in whoever unpickles it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo > {self.path}",)


def send_a_pickle(prey: Prey) -> None:
    _send(pickle.dumps(_Shell(prey.marker_path)))


def flood(prey: Prey) -> None:
    """Announce 1.5 GB and send them."""
    connection = _channel()._connection
    connection.sendall(HEADER.pack(ANSWER, _FLOOD_MB * 10**6))
    for _ in range(_FLOOD_MB):
        connection.sendall(bytes(10**6))


def announce_everything(prey: Prey) -> None:
    _channel()._connection.sendall(HEADER.pack(ANSWER, 2**64 - 1))


def announce_more_than_comes(prey: Prey) -> None:
    _channel()._connection.sendall(HEADER.pack(ANSWER, 10_000) + _ticket())
    os._exit(0)


def announce_a_longer_head(prey: Prey) -> None:
    _send(struct.pack("!I", 2**32 - 1) + b"{}")


def announce_more_pictures(prey: Prey) -> None:
    head = json.dumps({"row": {"faces": [{"crop": {"$bytes": 10**9}}]}}).encode()
    _send(struct.pack("!I", len(head)) + head)


def send_no_json(prey: Prey) -> None:
    _send(struct.pack("!I", 4) + b"\xff\xfe\x00{")


def send_deep_json(prey: Prey) -> None:
    head = b"[" * 10**6
    _send(struct.pack("!I", len(head)) + head)


def send_many_lists(prey: Prey) -> None:
    head = b'{"row":[' + b"[]," * (20 << 20) + b"0]}"
    _send(struct.pack("!I", len(head)) + head)


def send_another_table(prey: Prey) -> None:
    _send_row({"anything": [1, 2, 3]})


def send_an_unknown_kind_of_message(prey: Prey) -> None:
    _channel().send(b"?", b"anything")


def ask_for_a_file_that_is_not_there(prey: Prey) -> None:
    _channel().send(READ, RANGE.pack(7, 0, 100))


def _send(content: bytes) -> None:
    _channel().send(ANSWER, _ticket(), content)


def _send_row(row: dict[str, Any]) -> None:
    head = json.dumps({"row": row}).encode()
    _send(struct.pack("!I", len(head)) + head)


def _ticket() -> bytes:
    """Return the ticket of the task that is being worked on, from the variables of the function that does it."""
    frame: Any = sys._getframe()
    while "ticket" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["ticket"]


def _channel() -> ChildChannel:
    return next(found for found in gc.get_objects() if isinstance(found, ChildChannel))


FORGERIES: tuple[Callable[[Prey], None], ...] = (
    *(send_a_pickle, flood, announce_everything, announce_more_than_comes, announce_a_longer_head),
    *(announce_more_pictures, send_no_json, send_deep_json, send_many_lists, send_another_table),
    *(send_an_unknown_kind_of_message, ask_for_a_file_that_is_not_there),
)
