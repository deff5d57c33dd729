"""CPU seconds and memory of a command and everything that it started, read from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment.

    Attributes:
        pid: Its number.
        name: Its command line, or the title that it gave itself.
        cpu_s: User and system seconds so far, without those of its children.
        resident_mb: Resident memory, shared pages included, MB (10^6 bytes).
    """

    pid: int
    name: str
    cpu_s: float
    resident_mb: float


def descendants(root: int) -> Iterator[Process]:
    """Yield process `root` and all that come from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parents[int(entry.name)] = int(_stat_of(entry)[1])
    family = {root}
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= found
    for pid in sorted(family):
        with suppress(OSError, ValueError, IndexError):
            yield _process(pid)


def _stat_of(entry: Path) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    return (entry / "stat").read_text().rpartition(")")[2].split()


def _process(pid: int) -> Process:
    entry = Path("/proc") / str(pid)
    fields = _stat_of(entry)
    name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Process(pid, name, cpu_s, int(fields[21]) * _PAGE_BYTES / 1e6)


class Watch:
    """Samples a process and its descendants while its block runs.

    Attributes:
        samples: (seconds since the start of the block, processes), one each interval.
    """

    def __init__(self, root: int, *, every_s: float = 1.0, look: Callable[[], None] | None = None) -> None:
        """Take the first process, the interval, and what else to do at each sample."""
        self.samples: list[tuple[float, list[Process]]] = []
        self._root = root
        self._every_s = every_s
        self._look = look
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
            self.samples.append((time.monotonic() - began_s, list(descendants(self._root))))
            if self._look is not None:
                self._look()
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
