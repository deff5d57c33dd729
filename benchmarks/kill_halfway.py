"""Kill a run of one long video halfway, run the same command again, and count what was done twice."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drill_kill import kill
from benchmarks.job_runs import Run, committed, run_timed, started

_POLL_S = 0.05
_IN_ACCESS, _IN_CLOSE_NOWRITE, _IN_OPEN, _IN_NONBLOCK = 0x01, 0x10, 0x20, 0x800
_EVENT = struct.Struct("iIII")
"""Watch, mask, cookie, length of a name that the events of a watched file do not have."""


class Openings:
    """How often a file has been opened since the last question, by whatever process (inotify(7)).

    Reads are watched as well, because the kernel merges equal events that follow one another: between two openings there
    is then a read.
    """

    def __init__(self, path: Path) -> None:
        """Begin to watch the file at `path`."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_IN_NONBLOCK)
        mask = _IN_OPEN | _IN_ACCESS | _IN_CLOSE_NOWRITE
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def count(self) -> int:
        """Return how often it was opened since this was last asked."""
        num_opened = 0
        with suppress(BlockingIOError):
            while events := os.read(self._descriptor, 1 << 16):
                num_opened += sum(bool(mask & _IN_OPEN) for _, mask, _, _ in _EVENT.iter_unpack(events))
        return num_opened

    def close(self) -> None:
        """Stop to watch."""
        os.close(self._descriptor)


@contextmanager
def openings_of(path: Path) -> Iterator[Openings]:
    """Watch a file for as long as the block runs."""
    watch = Openings(path)
    try:
        yield watch
    finally:
        watch.close()


@dataclass(frozen=True, slots=True)
class Killed:
    """What a kill did to a run.

    Attributes:
        num_segments: Segments of the long file.
        num_committed: Segments that were committed when it was killed.
        num_begun: Segments that had been begun by then.
        num_begun_again: Segments that the second command began.
        until_kill_s: Wall-clock seconds up to the kill.
        after_s: Wall-clock seconds of the second command.
    """

    num_segments: int
    num_committed: int
    num_begun: int
    num_begun_again: int
    until_kill_s: float
    after_s: float


def kill_halfway(command: Sequence[str], out: Path, video: Path, *, num_segments: int) -> Killed:
    """Run `command`, kill all its processes when half of the segments are committed, and run it again to its end.

    Args:
        command: Scores one video into `out`.
        out: The output folder, which is not there yet.
        video: The file of the video, which nothing else opens meanwhile.
        num_segments: Segments of the video.

    Raises:
        SystemExit: The run ended before it could be killed, or did not end well after it.
    """
    log = out.with_suffix(".log")
    with openings_of(video) as watch:
        began_s = time.perf_counter()
        with started(command, log) as process:
            num_begun = _wait_for(out, watch, process, num_committed=num_segments // 2)
            if not kill("group", process, random.Random(0)):
                raise SystemExit(f"The run ended before half of its {num_segments} segments were committed")
        num_begun += watch.count()
        num_committed = sum(count for _, count in committed(out))
        killed_s = time.perf_counter()
        run_timed(command, log)
        return Killed(
            num_segments=num_segments,
            num_committed=num_committed,
            num_begun=num_begun,
            num_begun_again=watch.count(),
            until_kill_s=killed_s - began_s,
            after_s=time.perf_counter() - killed_s,
        )


def _wait_for(out: Path, watch: Openings, process: subprocess.Popen[bytes], *, num_committed: int) -> int:
    """Return how many segments were begun when `num_committed` of them are committed, or the process has ended."""
    num_begun = 0
    while process.poll() is None and sum(count for _, count in committed(out)) < max(1, num_committed):
        num_begun += watch.count()
        if not (out / "plan" / "segments").exists():
            num_begun = 0  # the file was opened to plan it
        time.sleep(_POLL_S)
    return num_begun


def print_killed(killed: Killed, undisturbed: Run) -> None:
    """Print what the kill cost."""
    lost = killed.num_begun - killed.num_committed
    extra_s = killed.until_kill_s + killed.after_s - undisturbed.wall_s
    rows = (
        ("segments", killed.num_segments),
        ("committed when the run was killed", killed.num_committed),
        ("begun by then, not committed: lost", lost),
        ("workers", undisturbed.throughput["num_cpus"]),
        ("begun by the second command", killed.num_begun_again),
        ("seconds until the kill", f"{killed.until_kill_s:.1f}"),
        ("seconds of the second command", f"{killed.after_s:.1f}"),
        ("seconds more than undisturbed", f"{extra_s:.1f}"),
    )
    print()
    for title, value in rows:
        print(f"{title:<36} {value:>8}")
