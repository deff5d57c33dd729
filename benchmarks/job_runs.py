"""What the benchmarks share: the project's commands as a user runs them, timed from outside, and the tables they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.drill_kill import descendants
from dfd_core.sources.videos import read_videos

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_SOURCE = "../shared/data/archive" if (ROOT / "../shared/data/archive").is_dir() else "demo/archive"
_PATIENCE_S = 60.0
_TOLD_CHARACTERS = 4000

Box = tuple[str, int, int, int, int, int]
"""video_id, frame_index, left, top, right, bottom; pixels."""
Faces = dict[Box, float]
"""p_fake of every face."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a command that ended well.

    Attributes:
        out: Its output folder.
        wall_s: Wall-clock seconds of the whole command, from the start of its process to the end of it.
        record: Its `run.json`.
    """

    out: Path
    wall_s: float
    record: dict[str, Any]

    @property
    def worker_s(self) -> float:
        """Wall-clock seconds of work, summed over all workers and stages; waiting for a model is none."""
        return sum(spent_s for stage, spent_s in self.record["stage_seconds"].items() if stage != "queue")

    @property
    def throughput(self) -> dict[str, Any]:
        """What `run.json` says of the segments' part of the run."""
        return self.record["throughput"]


def clips_of(source: str, count: int) -> list[str]:
    """Return the addresses of at most `count` videos of `source`, evenly taken."""
    uris = read_videos(source).table.column("uri").to_pylist()
    return [uris[position * len(uris) // count] for position in range(count)] if count < len(uris) else uris


def write_manifest(path: Path, videos: Sequence[tuple[str, str]]) -> Path:
    """Write a manifest of `videos`, each a video_id and an address, and return its path."""
    pd.DataFrame(videos, columns=["video_id", "uri"]).to_csv(path, index=False)
    return path


@contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` at the project's root, all it says into `log`; it is over when the block is left.

    If the block is left early, the command is interrupted, as by Ctrl-C, and ended with all its processes if it does not
    stop within a minute.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}  # this checkout, whatever is installed
    with open(log, "ab") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        for pid in (*descendants(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def run_timed(command: Sequence[str], log: Path) -> float:
    """Return the wall-clock seconds of `command`, from the start of its process to the end of it.

    Raises:
        SystemExit: It ended with another exit status than 0; the end of what it said is the message.
    """
    began_s = time.perf_counter()
    with started(command, log) as process:
        process.wait()
        wall_s = time.perf_counter() - began_s
    refuse_failure(process, log)
    return wall_s


def refuse_failure(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise SystemExit, with the end of what the command said, unless it ended with exit status 0."""
    if process.returncode:
        said = log.read_text(errors="replace")[-_TOLD_CHARACTERS:]
        raise SystemExit(f"Exit status {process.returncode} of {process.args}:\n{said}")


def score_command(source: Path | str, out: Path, *flags: str) -> list[str]:
    """Return the command that scores `source` into `out`."""
    return [sys.executable, "jobs/score.py", str(source), "--out", str(out), *flags]


def score(source: Path | str, out: Path, *flags: str) -> Run:
    """Score `source` into `out` with jobs/score.py and return the run.

    Raises:
        SystemExit: It did not end well.
    """
    wall_s = run_timed(score_command(source, out, *flags), out.with_suffix(".log"))
    return read_run(out, wall_s)


def read_run(out: Path, wall_s: float) -> Run:
    """Return the run that wrote `out` in `wall_s` seconds."""
    return Run(out, wall_s, json.loads((out / "run.json").read_text()))


def faces_of(out: Path) -> Faces:
    """Return every face of a scored folder.

    Raises:
        SystemExit: A box is there twice.
    """
    table = pq.read_table(out / "faces")
    names = ("video_id", "frame_index", "left", "top", "right", "bottom")
    boxes = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    faces = dict(zip(boxes, table.column("p_fake").to_pylist(), strict=True))
    if len(faces) != table.num_rows:
        raise SystemExit(f"{table.num_rows - len(faces)} faces of {out} are there twice")
    return faces


def differences(left: Faces, right: Faces, bound: float) -> tuple[float, list[str]]:
    """Return the largest difference of two scores of the same face, and what differs by more than it may.

    >>> box = ("clip", 0, 10, 10, 90, 90)
    >>> differences({box: 0.5}, {box: 0.25}, 0.1)
    (0.25, ['a score differs by 0.2500, more than 0.1'])
    >>> differences({box: 0.5}, {}, 0.1)
    (0.0, ['1 boxes of 1 and 0 are not in both'])
    """
    worst = max((abs(left[box] - right[box]) for box in left.keys() & right.keys()), default=0.0)
    found = []
    if others := len(left.keys() ^ right.keys()):
        found.append(f"{others} boxes of {len(left)} and {len(right)} are not in both")
    if not worst <= bound:
        found.append(f"a score differs by {worst:.4f}, more than {bound:g}")
    return worst, found


def committed(out: Path) -> list[tuple[int, int]]:
    """Return the commits of segments in `out`: when, ns since 1970, and how many; the earliest first."""
    return sorted(
        (file.stat().st_mtime_ns, pq.read_metadata(file).num_rows)
        for file in (out / "checkpoint" / "segments").glob("*.parquet")
        if not file.name.endswith(".pending.parquet")
    )
