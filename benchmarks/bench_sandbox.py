"""What the sandbox costs: the same clips extracted in this process and in its child, in turn.

    python benchmarks/bench_sandbox.py ../shared/data/archive --clips 12 --repeats 3

Prints one table: seconds of wall clock and of CPU, and footage seconds per second, with and without, and the ratios pair by pair. The
child runs at a lower priority, so on a busy machine only the CPU seconds tell.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import cv2

from dfd_core.config import ExtractConfig
from dfd_core.faces.detect import FrontalFaceDetector
from dfd_core.sources.videos import read_videos
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.plan import WHOLE_VIDEO, segment_id
from dfd_core.stages.probe import plan_video
from dfd_core.stages.sandbox import Sandbox
from dfd_core.stages.sandbox.watch import cpu_s

DEFAULT = Path("../shared/data/archive") if Path("../shared/data/archive").is_dir() else Path("demo/archive")


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of the wall clock, and of the CPU in this process and its child."""

    wall: float
    cpu: float

    @classmethod
    def now(cls, pid: int) -> Self:
        """Return the time now; `pid` is the child."""
        return cls(time.perf_counter(), time.process_time() + cpu_s(pid))

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.wall - other.wall, self.cpu - other.cpu)


@click.command()
@click.argument("source", default=str(DEFAULT))
@click.option("--clips", default=12, show_default=True, help="At most so many clips, evenly taken.")
@click.option("--repeats", default=3, show_default=True)
def main(source: str, clips: int, repeats: int) -> None:
    """Extract the clips of SOURCE with and without the sandbox."""
    cv2.setNumThreads(1)
    config = ExtractConfig()
    uris = read_videos(source).table.column("uri").to_pylist()
    uris = uris[:: max(1, len(uris) // clips)][:clips]
    planned = [(uri, plan_video({"plan_key": str(n), "uri": uri}, config)) for n, uri in enumerate(uris)]
    segments = [
        {"segment_id": segment_id(row["plan_key"], 0), "plan_key": row["plan_key"], "uri": uri}
        | {"fps": row["fps"], "duration_s": row["duration_s"], **WHOLE_VIDEO.as_row()}
        for uri, row in planned
        if row["segments"]
    ]
    footage_s = sum(segment["duration_s"] for segment in segments)
    detect, sandbox = FrontalFaceDetector(), Sandbox(config)
    sandbox.extract(segments[0])  # the child starts
    extract_segment(segments[0], config, detect)
    pid, confinement = sandbox.start(), sandbox.confinement()
    plain_s: list[Seconds] = []
    boxed_s: list[Seconds] = []
    for _ in range(repeats):
        began = Seconds.now(pid)
        plain = [extract_segment(segment, config, detect)["faces"] for segment in segments]
        between = Seconds.now(pid)
        boxed = [sandbox.extract(segment)["faces"] for segment in segments]
        plain_s.append(between - began)
        boxed_s.append(Seconds.now(pid) - between)
        assert plain == boxed, "the sandbox must not change a face"
    assert sandbox.start() == pid, "the child must last"
    sandbox.close()
    print(
        f"{len(segments)} clips, {footage_s:.0f} s of footage, {repeats} repeats, level {confinement['level']}\n"
    )
    print(f"{'':<18} {'wall s (median)':>16} {'CPU s (median)':>16} {'footage s per s':>16}")
    for name, seconds in (("without sandbox", plain_s), ("with sandbox", boxed_s)):
        wall_s, cpu_s = (
            statistics.median(getattr(one, field) for one in seconds) for field in ("wall", "cpu")
        )
        print(f"{name:<18} {wall_s:>16.2f} {cpu_s:>16.2f} {footage_s / wall_s:>16.1f}")
    print()
    for field in ("wall", "cpu"):
        ratios = [getattr(b, field) / getattr(p, field) for p, b in zip(plain_s, boxed_s, strict=True)]
        median = statistics.median(ratios)
        print(
            f"{field}, with / without, pair by pair: median {median:.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
