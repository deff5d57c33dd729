"""The limits of one task of a child process, watched from outside."""

from __future__ import annotations

import os
import resource
import time

from dfd_core.errors import VideoOutOfMemoryError, VideoTimeoutError, VideoTooExpensiveError

POLL_S = 0.1
_MB = 10**6
_GRACE_S = 30.0
"""The child itself ends a task that has used its CPU seconds up, with what was done. It may take a while to come to that."""


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, MB (10^6 bytes); 0 if it is gone, or there is no /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / _MB
    except (OSError, IndexError):
        return 0.0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 if it is gone, or there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            user, system = file.read().rpartition(b")")[2].split()[11:13]
    except (OSError, ValueError):
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Watch:
    """The limits of one task."""

    def __init__(
        self, pid: int, name: str, *, timeout_s: float, memory_mb: int | None, max_cpu_s: float | None
    ) -> None:
        """Begin to watch; `name` begins the message of a limit that was passed."""
        self._pid = pid
        self._name = name
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._max_cpu_s = max_cpu_s
        self._until_s = time.monotonic() + timeout_s
        self._cpu_before_s = cpu_s(pid)
        self._next_look_s = 0.0
        self.resident_mb = 0.0
        """What the process held when it was last looked at."""

    def left_s(self) -> float:
        """Return the seconds that the task still has, at least a few tenths."""
        return max(POLL_S, self._until_s - time.monotonic())

    def look(self) -> None:
        """Look at the process, a few times a second at most.

        Raises:
            VideoError: It has passed a limit.
        """
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + POLL_S
        if now_s > self._until_s:
            raise VideoTimeoutError(f"{self._name} took longer than {self._timeout_s:g} s")
        self.resident_mb = resident_mb(self._pid)
        if self._memory_mb is not None and self.resident_mb > self._memory_mb:
            raise VideoOutOfMemoryError(f"{self._name} took more than {self._memory_mb} MB of memory")
        if self._max_cpu_s is not None and cpu_s(self._pid) - self._cpu_before_s > self._max_cpu_s + _GRACE_S:
            raise VideoTooExpensiveError(f"{self._name} took more than {self._max_cpu_s:g} CPU seconds")
