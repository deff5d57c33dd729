"""A lock on a remote folder: an object that its holder rewrites every few seconds for as long as it lives.

pyarrow has no "create only if absent" for object stores, so the lock is an agreement between well-behaved processes. A process that
finds the object changing gives up. A process that finds it unchanged for three beats takes it over; clocks need not agree. If two
start within the same second, both write, wait and read, and the last writer keeps the lock; with a write that takes longer than that
wait, both may believe for a few seconds that they hold it. A holder that was silent for so long that another took over finds the other's
name at its next beat, and ends.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from dfd_core.errors import OutputError, RequestError
from dfd_core.storage.address import Address
from dfd_core.storage.files import delete_file, read_bytes, write_bytes

BEAT_S = 5.0
"""Seconds from one sign of life to the next."""
_BEATS_UNTIL_DEAD = 3
_SETTLE_S = 1.0
_POLL_S = 0.5


class RemoteLock:
    """A context in which no other run uses the remote folder."""

    def __init__(self, address: Address, *, on_lost: Callable[[], None], beat_s: float = BEAT_S) -> None:
        """Describe the lock; `acquire` takes it.

        Args:
            address: Of the object.
            on_lost: Called from a thread when another has taken the lock over.
            beat_s: Seconds from one sign of life to the next.
        """
        self._address = address
        self._on_lost = on_lost
        self._beat_s = beat_s
        self._name = uuid.uuid4().hex
        self._num_beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def acquire(self) -> None:
        """Take the lock. If a process left one and seems to be dead, wait until that is certain.

        Raises:
            OutputError: Another process has it.
            OSError: The storage failed.
        """
        if self._is_alive():
            raise OutputError("Another run is writing there")
        self._beat()
        time.sleep(min(_SETTLE_S, self._beat_s))
        if not self._is_mine():
            raise OutputError("Another run has begun there at the same moment")
        self._thread.start()

    def release(self) -> None:
        """Give the lock back, if it is still this process's."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            with suppress(OSError, RequestError):  # the next process finds it unchanged, and takes it over
                if self._is_mine():
                    delete_file(self._address)

    def __enter__(self) -> RemoteLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_alive(self) -> bool:
        """Return whether the object is there and changes."""
        found = self._read()
        deadline_s = time.monotonic() + _BEATS_UNTIL_DEAD * self._beat_s
        while found is not None and time.monotonic() < deadline_s:
            time.sleep(min(_POLL_S, self._beat_s / 2))
            now = self._read()
            if now is not None and now != found:
                return True
            found = now
        return False

    def _is_mine(self) -> bool:
        found = self._read()
        return found is not None and found.startswith(self._name.encode())

    def _read(self) -> bytes | None:
        try:
            return read_bytes(self._address)
        except FileNotFoundError:
            return None

    def _beat(self) -> None:
        self._num_beats += 1
        write_bytes(self._address, f"{self._name} {self._num_beats}\n".encode())

    def _live(self) -> None:
        while not self._stop.wait(self._beat_s):
            is_lost = False
            with suppress(Exception):  # the storage may recover before the next beat
                is_lost = not self._is_mine()
                if not is_lost:
                    self._beat()
            if is_lost:
                self._on_lost()
                return
