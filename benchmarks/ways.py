"""The ways that `score_vs_seed.py` compares, each a command that is started, timed and read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.job_runs import Faces, Run, differences, faces_of, run_timed, score, write_manifest

BOUNDS = {"b": 1e-4, "c": 1e-4, "d": 0.03, "e": 0.03}
NAMES = {
    "a": "a  the seed's loop",
    "b, threads": "b  a process a core, default threads",
    "b, thread": "b  a process a core, one thread each",
    "c": "c  plain Ray Data",
    "d": "d  this job",
    "e": "e  the floor",
}
TIMES = 4
"""How often the longer of two runs has every clip: the more, the less the noise of either counts."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One way, once.

    Attributes:
        faces: What it found.
        work_s: Seconds without start-up.
        whole_s: Wall-clock seconds of the whole command; None where that has no meaning.
        runs: The job's runs, if the way is the job: over the clips once, and `TIMES` times.
        cpu_s: CPU seconds by stage, if the way is the floor.
    """

    faces: Faces
    work_s: float
    whole_s: float | None = None
    runs: tuple[Run, ...] = ()
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """The clips, where the ways leave what they write, and what they did.

    Attributes:
        model: What `--model` of jobs/score.py takes.
        paths: The clips.
        scratch: A folder for everything that the ways write.
        timed: For each way, one entry a repeat.
        opt_ins: For each set of flags, a run of the job with them a repeat.
        worst: For each way, the largest difference of a score from a's.
        faults: What is not equal that should be.
    """

    model: str
    paths: list[str]
    scratch: Path
    timed: dict[str, list[Timed]] = field(default_factory=dict)
    opt_ins: dict[str, list[Run]] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return a new path in the scratch folder."""
        return self.scratch / f"{len(list(self.scratch.iterdir())):04d}-{name}"

    def command(self, module: str, paths: Sequence[str], out: Path, *flags: str) -> list[str]:
        """Return the command of a way that is a module of the benchmarks."""
        clips = self.path("clips.json")
        clips.write_text(json.dumps(paths))
        module = f"benchmarks.{module}"
        return [sys.executable, "-m", module, str(clips), str(out), "--model", self.model, *flags]


# --- the ways -----------------------------------------------------------------------------------------------------


def seed_loop(bench: Bench, *flags: str) -> Timed:
    """Do way a, or b where the flags say how."""
    out = bench.path("seed.json")
    command = bench.command("way_seed", bench.paths, out, *flags)
    whole_s = run_timed(command, bench.path("seed.log"))
    said = json.loads(out.read_text())
    return Timed(_listed(said["faces"]), said["loop_s"], whole_s)


def seed_pool(bench: Bench) -> Timed:
    """Do way b with the libraries' own number of threads."""
    return seed_loop(bench, "--processes", str(os.cpu_count()))


def seed_pool_of_one_thread(bench: Bench) -> Timed:
    """Do way b with one thread a process."""
    return seed_loop(bench, "--processes", str(os.cpu_count()), "--one-thread")


def plain_ray(bench: Bench) -> Timed:
    """Do way c."""
    outs, walls_s = [], []
    for paths in (bench.paths, bench.paths * TIMES):
        outs.append(bench.path("plain_ray"))
        command = bench.command("way_plain_ray", paths, outs[-1])
        walls_s.append(run_timed(command, bench.path("plain_ray.log")))
    once, often = (pq.read_table(out) for out in outs)
    if often.num_rows != TIMES * once.num_rows:
        bench.faults.append(
            f"c finds {once.num_rows} faces, and {often.num_rows} in every clip {TIMES} times"
        )
    names = ("path", "frame_index", "left", "top", "right", "bottom", "p_fake")
    rows = zip(*(once.column(name).to_pylist() for name in names), strict=True)
    return Timed(_listed(list(rows)), _marginal_s(*walls_s), walls_s[0])


def job(bench: Bench) -> Timed:
    """Do way d."""
    listed = [[(f"{path}#{copy}", path) for path in bench.paths] for copy in range(TIMES)]
    once, often = run_job(bench, listed[0]), run_job(bench, [video for copy in listed for video in copy])
    faces, again = faces_of(once.out), faces_of(often.out)
    for copy in range(TIMES):
        part = {
            (_path(box[0]) + "#0", *box[1:]): p_fake
            for box, p_fake in again.items()
            if box[0].endswith(f"#{copy}")
        }
        faults = differences(faces, part, BOUNDS["d"])[1]
        bench.faults += [f"d, every clip {TIMES} times: {fault}" for fault in faults]
    named = {(_path(box[0]), *box[1:]): p_fake for box, p_fake in faces.items()}
    return Timed(named, _marginal_s(once.wall_s, often.wall_s), once.wall_s, (once, often))


def _path(video_id: str) -> str:
    return video_id.rpartition("#")[0]


def _marginal_s(once_s: float, often_s: float) -> float:
    """Return what every further time over the clips takes, seconds."""
    return (often_s - once_s) / (TIMES - 1)


def floor(bench: Bench) -> Timed:
    """Do way e."""
    out = bench.path("floor.json")
    run_timed(bench.command("way_floor", bench.paths, out), bench.path("floor.log"))
    said = json.loads(out.read_text())
    cpu_s = {stage: said[f"{stage}_s"] for stage in ("decode", "detect", "score")}
    return Timed(_listed(said["faces"]), sum(cpu_s.values()) / (os.cpu_count() or 1), cpu_s=cpu_s)


def run_job(bench: Bench, videos: Sequence[tuple[str, str]], *flags: str) -> Run:
    """Score `videos`, each a video_id and an address, with this job; `flags` count more than what is given here."""
    manifest = write_manifest(bench.path("manifest.csv"), videos)
    same_work = ("--model", bench.model, "--raw", "--sampling", "stride")
    return score(manifest, bench.path("scores"), *same_work, *flags)


WAYS: dict[str, Callable[[Bench], Timed]] = {
    "d": job,
    "e": floor,
    "c": plain_ray,
    "b, thread": seed_pool_of_one_thread,
    "b, threads": seed_pool,
    "a": seed_loop,
}


def _listed(rows: Sequence[Sequence[Any]]) -> Faces:
    """Return rows of path, frame_index, left, top, right, bottom and p_fake as faces."""
    return {tuple(row[:6]): row[6] for row in rows}
