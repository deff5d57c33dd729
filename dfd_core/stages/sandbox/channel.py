"""What crosses between a parent and its child: messages of a kind and a length, over one socket.

The parent sends `SETUP` and `TASK` (pickled: the child trusts its parent), `DATA` and `FAILURE`. The child sends `READY`
and `ANSWER` (see `answer`), and `READ` to ask for bytes of the video. Nothing that the child sends is unpickled.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

from dfd_core.storage.range_file import RangeFile

SETUP, TASK, DATA, FAILURE = b"S", b"T", b"D", b"F"
READY, READ, ANSWER = b"R", b"G", b"A"
HEADER = struct.Struct("!cQ")
RANGE = struct.Struct("!BQQ")
"""A request for bytes: the number of the file in the task, the offset, the size."""
MAX_READ_BYTES = 8 << 20
MAX_FILES = 4
TICKET_BYTES = 16
"""A task comes with a random ticket, and its answer begins with it: an answer sent ahead of the next task is not taken for it."""

Receive = Callable[[int], bytearray]
"""Returns exactly so many bytes."""


def pickled_task(task: tuple[Any, ...]) -> tuple[bytes, list[int], list[RangeFile]]:
    """Return a task pickled without its open files, the descriptors of the local ones, and the remote ones."""
    buffer = io.BytesIO()
    pickler = _TaskPickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dump(task)
    return buffer.getvalue(), pickler.descriptors, pickler.remote


class _TaskPickler(pickle.Pickler):
    """Puts a number in place of each open file."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.descriptors: list[int] = []
        self.remote: list[RangeFile] = []

    def persistent_id(self, value: Any) -> tuple[str, int, int] | None:
        """Return what stands for an open file, None for anything else."""
        if isinstance(value, io.FileIO):
            self.descriptors.append(value.fileno())
            return ("descriptor", len(self.descriptors) - 1, 0)
        if isinstance(value, RangeFile):
            self.remote.append(value)
            return ("ranges", len(self.remote) - 1, value.size)
        return None


class ChildChannel:
    """The child's end. It blocks; its parent's end decides how long."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the connection over."""
        self._connection = connection

    def send(self, kind: bytes, *parts: bytes | memoryview) -> None:
        """Send one message."""
        self._connection.sendall(HEADER.pack(kind, sum(len(part) for part in parts)))
        for part in parts:
            self._connection.sendall(part)

    def receive(self) -> tuple[bytes, bytearray, list[int]]:
        """Return the next message's kind and content, and the descriptors that came with it.

        Raises:
            EOFError: The parent has gone.
        """
        head, descriptors, _, _ = socket.recv_fds(self._connection, HEADER.size, MAX_FILES)
        head += self._exactly(HEADER.size - len(head))
        kind, length = HEADER.unpack(head)
        return kind, self._exactly(length), descriptors

    def _exactly(self, size: int) -> bytearray:
        content = bytearray(size)
        view = memoryview(content)
        while view:
            count = self._connection.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return content

    def task(self, content: bytes | bytearray, descriptors: list[int]) -> Any:
        """Return a task, its open files in their places."""
        return _TaskUnpickler(content, descriptors, self).load()

    def read(self, file_number: int, offset: int, size: int) -> bytes:
        """Return bytes of a remote file, which the parent reads.

        Raises:
            OSError: Its storage failed.
        """
        self.send(READ, RANGE.pack(file_number, offset, size))
        kind, content, _ = self.receive()
        if kind == FAILURE:
            raise OSError(content.decode())
        return bytes(content)


class _TaskUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes | bytearray, descriptors: list[int], channel: ChildChannel) -> None:
        super().__init__(io.BytesIO(content))
        self._descriptors = descriptors
        self._channel = channel

    def persistent_load(self, key: tuple[str, int, int]) -> Any:
        """Return the open file that `key` stands for."""
        kind, number, size = key
        if kind == "descriptor":
            return open(self._descriptors[number], "rb", buffering=0, closefd=False)
        return _ServedFile(self._channel, number, size)


class _ServedFile(io.RawIOBase):
    """A remote file, seekable, whose bytes the parent reads."""

    def __init__(self, channel: ChildChannel, number: int, size: int) -> None:
        self._channel = channel
        self._number = number
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        size = min(left if size < 0 else min(size, left), MAX_READ_BYTES)
        content = self._channel.read(self._number, self._position, size) if size else b""
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"Expected a position >= 0. Received: {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position
