"""Kill a scoring run at random moments, start it again, and compare its tables with those of an undisturbed run.

    python benchmarks/drill_kill.py --kills 30 --seed 1

The victims are taken in turn: the driver, a CPU worker, a score actor, and the whole process group. A run that loses its
driver or its group is started again with the same command; one that loses a worker or an actor must end by itself.
Prints one table; exit status 1 if a row was lost, doubled or changed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
VICTIMS = ("driver", "worker", "actor", "group")
MODEL = "untrained:mobilenet_v3_small"
_TITLES = {"worker": "ray::MapBatches(extract_block)", "actor": "ray::MapWorker(MapBatches(ScoreBlock)"}


@dataclass
class Drill:
    """What happened.

    Attributes:
        kills: Kills that hit their victim, by victim.
        runs: Runs that were started.
        faults: What went wrong; empty if every promise held.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def start(archive: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the scoring job in a process group of its own."""
    command = [sys.executable, "jobs/score.py", str(archive), "--model", MODEL, "--out", str(out)]
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def _titled(pids: list[int], title: str) -> list[int]:
    found = []
    for pid in pids:
        try:
            if title in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
        except OSError:
            continue
    return found


def kill(victim: str, driver: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Send SIGKILL to `victim` of the run; return False if there was none at this moment."""
    below = descendants(driver.pid)
    if victim in _TITLES:
        candidates = _titled(below, _TITLES[victim])
        if not candidates:
            return False
        os.kill(chance.choice(sorted(candidates)), signal.SIGKILL)
        return True
    if driver.poll() is not None:
        return False
    for pid in [driver.pid, *below] if victim == "group" else [driver.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    driver.wait()
    return True


def tables(out: Path) -> tuple[list[dict], list[dict]]:
    """Return the rows of `videos/` and `faces/`."""
    return pq.read_table(out / "videos").to_pylist(), pq.read_table(out / "faces").to_pylist()


def doubled(out: Path) -> int:
    """Return how many segments were committed more than once."""
    ids = [
        segment_id
        for file in (out / "checkpoint" / "segments").glob("*.parquet")
        if not file.name.endswith(".pending.parquet")
        for segment_id in pq.read_table(file).column("segment_id").to_pylist()
    ]
    return len(ids) - len(set(ids))


def disturbed_run(
    archive: Path,
    out: Path,
    plan: list[tuple[str, float]],
    drill: Drill,
    chance: random.Random,
    *,
    limit_s: float,
) -> None:
    """Run the job to its end, killing the planned victims, each after its delay in seconds."""
    plan = list(plan)
    driver = start(archive, out)
    drill.runs += 1
    started_s, deadline_s = time.monotonic(), time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        is_due = plan and time.monotonic() - started_s >= plan[0][1]
        if is_due and driver.poll() is None and kill(plan[0][0], driver, chance):
            drill.kills[plan.pop(0)[0]] += 1
            started_s = time.monotonic()
        if driver.poll() is None:
            time.sleep(0.05)
            continue
        if driver.returncode == 0:
            return
        if driver.returncode != -signal.SIGKILL:
            drill.faults.append(f"exit status {driver.returncode}: see {out.with_suffix('.log')}")
            return
        driver = start(archive, out)
        drill.runs += 1
        started_s = time.monotonic()
    drill.faults.append(f"not done after {limit_s:.0f} s")
    kill("group", driver, chance)


def compare(expected: Path, out: Path, drill: Drill) -> None:
    """Note where the tables of `out` are not those of `expected`."""
    for name, left, right in zip(("videos", "faces"), tables(expected), tables(out), strict=True):
        if left != right:
            wrong = sum(a != b for a, b in zip(left, right, strict=False)) + abs(len(left) - len(right))
            drill.faults.append(f"{name}: {wrong} rows differ in {out}")


def make_archive(folder: Path, copies: int) -> None:
    """Make the demo's clips and link each `copies` times."""
    command = [
        sys.executable,
        "jobs/make_demo_archive.py",
        "--out",
        str(folder / "clips"),
        "--train",
        "0",
        "--held-out",
        "3",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for clip in sorted((folder / "clips").rglob("*.mp4")):
        for copy in range(copies):
            os.link(clip, folder / f"{clip.stem}_{copy:02d}.mp4")
    shutil.rmtree(folder / "clips")


@click.command()
@click.option("--kills", default=30, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--copies", default=8, show_default=True, help="How often each of the six clips is in the archive."
)
def main(kills: int, seed: int, copies: int) -> None:
    """Kill runs at random moments and compare."""
    chance = random.Random(seed)
    drill = Drill()
    recommitted = rounds = 0
    with tempfile.TemporaryDirectory(prefix="dfd-drill-") as scratch:
        archive = Path(scratch) / "archive"
        archive.mkdir()
        make_archive(archive, copies)
        expected = Path(scratch) / "expected"
        began_s = time.monotonic()
        if start(archive, expected).wait() != 0:
            sys.exit(expected.with_suffix(".log").read_text())
        whole_s = time.monotonic() - began_s
        while sum(drill.kills.values()) < kills and not drill.faults:
            done = sum(drill.kills.values())
            plan = [
                (VICTIMS[(done + n) % len(VICTIMS)], chance.uniform(0.1, 0.9) * whole_s)
                for n in range(min(4, kills - done))
            ]
            out = Path(scratch) / f"run{rounds}"
            disturbed_run(archive, out, plan, drill, chance, limit_s=20 * whole_s)
            rounds += 1
            if drill.faults:
                print(out.with_suffix(".log").read_text()[-4000:])
                break
            compare(expected, out, drill)
            recommitted += doubled(out)
            print(
                f"round {rounds}: {dict(drill.kills)} kills so far, {drill.runs} runs, {len(drill.faults)} faults",
                flush=True,
            )
        num_videos, num_faces = (len(table) for table in tables(expected))
    print(
        f"\n{'kills':>6} {'rounds':>6} {'runs':>6} {'videos':>7} {'faces':>7} {'rows lost or changed':>21} {'committed twice':>16}"
    )
    print(
        f"{sum(drill.kills.values()):>6} {rounds:>6} {drill.runs:>6} {num_videos:>7} {num_faces:>7} "
        f"{len(drill.faults):>21} {recommitted:>16}"
    )
    print("by victim: " + ", ".join(f"{victim} {count}" for victim, count in sorted(drill.kills.items())))
    for fault in drill.faults:
        print(fault)
    sys.exit(1 if drill.faults else 0)


if __name__ == "__main__":
    main()
