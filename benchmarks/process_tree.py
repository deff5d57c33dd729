"""CPU seconds and memory of a command and everything that it started, read from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drill_kill import descendants

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment.

    Attributes:
        pid: Its number.
        cpu_s: User and system seconds so far, without those of its children.
        resident_mb: Resident memory, shared pages included, MB (10^6 bytes).
    """

    pid: int
    cpu_s: float
    resident_mb: float


def family(root: int) -> Iterator[Process]:
    """Yield process `root` and all that come from it."""
    for pid in (root, *descendants(root)):
        with suppress(OSError, ValueError, IndexError):
            yield _process(pid)


def _process(pid: int) -> Process:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the state on
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Process(pid, cpu_s, int(fields[21]) * _PAGE_BYTES / 1e6)


class Watch:
    """Samples a process and its descendants while its block runs.

    Attributes:
        samples: (seconds since the start of the block, processes), one each interval.
    """

    def __init__(self, root: int, *, every_s: float = 1.0) -> None:
        """Take the first process and the interval."""
        self.samples: list[tuple[float, list[Process]]] = []
        self._root = root
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - began_s, list(family(self._root))))
            if self._stop.wait(self._every_s):
                return

    def cpu_s(self) -> float:
        """Return the CPU seconds of all processes that were seen, to within what one uses after its last sample."""
        last = {process.pid: process.cpu_s for _, processes in self.samples for process in processes}
        return sum(last.values())

    def most_resident_mb(self, pid: int) -> float:
        """Return the highest resident memory of one process, MB."""
        return max(
            (process.resident_mb for _, found in self.samples for process in found if process.pid == pid),
            default=0.0,
        )
