"""What the job itself costs, without decoding and without a model: 10,000, 100,000 and 1,000,000 videos.

    python -m benchmarks.scale --rows 10000,100000,1000000

Each number of rows is a run of the real job in a process of its own (`benchmarks/scale_job.py`), then the same command
again on the finished folder. Prints a table, a fitted line of CPU seconds against rows, and whether the goals are met:
driver memory under 2 GiB and flat, under 2 ms of CPU a segment, a finished million resumed in under 2 minutes, its tables
derived in under 5, and files of some size.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.process_tree import Watch

ROOT = Path(__file__).resolve().parent.parent
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took.

    Attributes:
        facts: What the job wrote of itself: seconds by phase, peak of the object store.
        cpu_s: CPU seconds of the driver, of Ray and of all workers.
        driver_cpu_s: Of the driver alone.
        driver_mb: Its highest resident memory, MB.
        largest_worker_mb: The highest resident memory of any other process, MB, shared pages of the object store included.
    """

    facts: dict[str, float]
    cpu_s: float
    driver_cpu_s: float
    driver_mb: float
    largest_worker_mb: float


def run_job(manifest: Path, out: Path, faces: int) -> Run:
    """Run the job and return what it took."""
    facts = out.with_suffix(".json")
    driver = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale_job", manifest, out, facts],
        cwd=ROOT,
        env={**os.environ, "DFD_SCALE_FACES": str(faces)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Watch(driver.pid) as watch:
        _, log = driver.communicate()
    if driver.returncode:
        raise SystemExit(f"The job ended with {driver.returncode}:\n{log[-3000:]}")
    others = [
        process.resident_mb for _, found in watch.samples for process in found if process.pid != driver.pid
    ]
    own = [process.cpu_s for _, found in watch.samples for process in found if process.pid == driver.pid]
    return Run(
        json.loads(facts.read_text()),
        watch.cpu_s(),
        max(own),
        watch.most_resident_mb(driver.pid),
        max(others),
    )


def write_manifest(path: Path, rows: int) -> None:
    """Write a manifest of `rows` videos that are nowhere."""
    names = [f"part-{row // 1000:04d}/video-{row:07d}.mp4" for row in range(rows)]
    pq.write_table(pa.table({"uri": [f"s3://archive/{name}" for name in names], "video_id": names}), path)


def files_of(out: Path) -> dict[str, tuple[int, float]]:
    """Return how many files the folders of a run have, and their median size, MB."""
    found = {}
    for name in ("videos", "faces", "segments", "checkpoint/segments", "plan/videos"):
        sizes = [file.stat().st_size / _MB for file in (out / name).glob("*.parquet")]
        found[name] = (len(sizes), statistics.median(sizes) if sizes else 0.0)
    return found


@click.command()
@click.option("--rows", default="10000,100000,1000000", show_default=True, help="Numbers of videos.")
@click.option("--faces", default=1, show_default=True, help="Faces of 128 pixels in every video.")
def main(rows: str, faces: int) -> None:
    """Run the job at each number of rows and compare."""
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dfd-scale-") as scratch:
        for count in map(int, rows.split(",")):
            manifest, out = Path(scratch) / f"{count}.parquet", Path(scratch) / f"out{count}"
            write_manifest(manifest, count)
            first = run_job(manifest, out, faces)
            again = run_job(manifest, out, faces)
            found = sum(pq.read_metadata(file).num_rows for file in (out / "videos").glob("*.parquet"))
            if found != count:
                raise SystemExit(f"Expected {count} videos. Received: {found}")
            table.append({"rows": count, "first": first, "again": again, "files": files_of(out)})
            _print_row(table[-1])
    _print_fit(table)


def _print_row(row: dict[str, Any]) -> None:
    first, again = row["first"], row["again"]
    facts = first.facts
    print(f"\n{row['rows']:,} videos")
    print(
        f"  seconds: plan {facts['plan_s']:.0f}, segments {facts['segments_s']:.0f}, tables {facts['finish_s']:.0f}, "
        f"whole command {facts['wall_s']:.0f}; the same command again {again.facts['wall_s']:.0f}"
    )
    print(
        f"  CPU seconds: {first.cpu_s:.0f}, of them driver {first.driver_cpu_s:.0f}; "
        f"{first.cpu_s / row['rows'] * 1e3:.2f} ms a segment with the start in it"
    )
    print(
        f"  memory, MB: driver {first.driver_mb:.0f} (again {again.driver_mb:.0f}), largest other process "
        f"{first.largest_worker_mb:.0f}, object store {facts['object_store_mb']:.0f}"
    )
    print(
        "  files (median MB): "
        + ", ".join(f"{name} {number:,} ({size:.3g})" for name, (number, size) in row["files"].items()),
        flush=True,
    )


def _print_fit(table: list[dict[str, Any]]) -> None:
    counts = np.array([row["rows"] for row in table], float)
    largest = table[-1]
    first, again = largest["first"], largest["again"]
    goals = [
        ("driver memory under 2 GiB", f"{first.driver_mb:.0f} MB", first.driver_mb < 2**31 / _MB),
        ("resumed in under 2 minutes", f"{again.facts['wall_s']:.0f} s", again.facts["wall_s"] < 120),
        ("tables in under 5 minutes", f"{first.facts['finish_s']:.0f} s", first.facts["finish_s"] < 300),
        (
            "no table of more than 100 files",
            ", ".join(f"{largest['files'][name][0]}" for name in ("videos", "faces")),
            max(largest["files"][name][0] for name in ("videos", "faces")) <= 100,
        ),
    ]
    if len(table) > 1:
        slope, start = np.polyfit(counts, [row["first"].cpu_s for row in table], 1)
        driver_slope, driver_start = np.polyfit(counts, [row["first"].driver_cpu_s for row in table], 1)
        print(f"\nCPU seconds = {start:.0f} + {slope * 1e3:.2f} ms x segments")
        print(f"of the driver = {driver_start:.0f} + {driver_slope * 1e3:.3f} ms x segments")
        goals.insert(1, ("under 2 ms of CPU a segment", f"{slope * 1e3:.2f} ms", slope < 0.002))
    print()
    for goal, found, is_met in goals:
        print(f"{'met' if is_met else 'MISSED':<7} {goal}: {found}")


if __name__ == "__main__":
    main()
