"""This job against what people would write otherwise: same clips, same dlib, same model, in one run, in turn.

    python benchmarks/bench_score_vs_seed.py ../shared/data/archive --clips 12 --repeats 2

a  the seed's loop: OpenCV reads every frame, dlib on every chosen one, one `model.predict` a face
b  the same in one process a core, under multiprocessing
d  this job: the whole command, and the part of it from the planned segments to the last result (`throughput.wall_s` in
   `run.json`), in which the workers start and the model loads

Boxes of a and d must be equal; scores within the precision's bound. Prints one table.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from dfd_core.manifest import read_source

ROOT = Path(__file__).resolve().parent.parent
MODEL = "untrained:inception_resnet_v2"
DEFAULT = Path("../shared/data/archive") if Path("../shared/data/archive").is_dir() else Path("demo/archive")
MOST_DIFFERENT = 0.03

Faces = dict[tuple[str, int, int, int], float]


def seed_loop(paths: list[str]) -> Faces:
    """Return the score of every face, by path, frame, left and top: the report's loop, written out."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cv2
    import dlib

    from dfd_core.model import build_classifier

    model = build_classifier("inception_resnet_v2", weights=None)
    detector = dlib.get_frontal_face_detector()
    found: Faces = {}
    for path in paths:
        capture = cv2.VideoCapture(path)
        rate, index = capture.get(cv2.CAP_PROP_FPS), 0
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            if index % (int(rate) + 1) == 0:
                rgb = np.ascontiguousarray(frame[:, :, ::-1])
                for box in detector.run(rgb, 0)[0]:
                    crop = rgb[max(box.top(), 0) : box.bottom(), max(box.left(), 0) : box.right()]
                    data = cv2.resize(crop, (128, 128))[None] / 255.0
                    p_fake = float(model.predict(data, verbose=0)[0, 0])
                    found[path, index, box.left(), box.top()] = p_fake
            index += 1
    return found


def seed_pool(paths: list[str]) -> Faces:
    """Return the same from one process a core."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        parts = pool.map(seed_loop, [paths[core::cores] for core in range(cores)])
    return {key: value for part in parts for key, value in part.items()}


def job(paths: list[str], scratch: Path, number: int) -> tuple[Faces, dict[str, Any]]:
    """Return what the scoring job finds, and its `run.json`."""
    out = scratch / f"out{number}"
    pd.DataFrame({"uri": paths, "video_id": paths}).to_csv(scratch / "manifest.csv", index=False)
    command = [
        sys.executable,
        "jobs/score.py",
        str(scratch / "manifest.csv"),
        "--model",
        MODEL,
        "--out",
        str(out),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = pq.read_table(out / "faces").to_pylist()
    found = {(row["video_id"], row["frame_index"], row["left"], row["top"]): row["p_fake"] for row in rows}
    return found, json.loads((out / "run.json").read_text())


@click.command()
@click.argument("source", default=str(DEFAULT))
@click.option("--clips", default=12, show_default=True, help="At most so many clips, evenly taken.")
@click.option("--repeats", default=1, show_default=True)
def main(source: str, clips: int, repeats: int) -> None:
    """Compare on the clips of SOURCE."""
    table = read_source(source).table
    paths = table.column("uri").to_pylist()
    paths = paths[:: max(1, len(paths) // clips)][:clips]
    walls: dict[str, list[float]] = {name: [] for name in ("a", "b", "d, whole", "d, segments")}
    footage_s = 0.0
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as scratch:
        for number in range(repeats):
            found = {}
            for name, way in (("a", seed_loop), ("b", seed_pool)):
                began_s = time.perf_counter()
                found[name] = way(paths)
                walls[name].append(time.perf_counter() - began_s)
            began_s = time.perf_counter()
            found["d"], record = job(paths, Path(scratch), number)
            walls["d, whole"].append(time.perf_counter() - began_s)
            walls["d, segments"].append(record["throughput"]["wall_s"])
            footage_s = record["throughput"]["footage_s"]
            _compare(found["a"], found["b"], 1e-6)
            _compare(found["a"], found["d"], MOST_DIFFERENT)
    print(f"{len(paths)} clips, {footage_s:.0f} s of footage, {os.cpu_count()} cores, {repeats} repeats\n")
    print(f"{'way':<12} {'wall s':>8} {'footage s per s':>16} {'a / way':>8} {'b / way':>8}")
    for name, times in walls.items():
        ratio_a = statistics.median(a / way for a, way in zip(walls["a"], times, strict=True))
        ratio_b = statistics.median(b / way for b, way in zip(walls["b"], times, strict=True))
        wall_s = statistics.median(times)
        print(f"{name:<12} {wall_s:>8.1f} {footage_s / wall_s:>16.2f} {ratio_a:>8.2f} {ratio_b:>8.2f}")


def _compare(left: Faces, right: Faces, bound: float) -> None:
    if left.keys() != right.keys():
        raise SystemExit(f"The boxes differ: {len(left.keys() ^ right.keys())} of {len(left)}")
    worst = max((abs(left[key] - right[key]) for key in left), default=0.0)
    if worst > bound:
        raise SystemExit(f"A score differs by {worst:.4f}, more than {bound}")


if __name__ == "__main__":
    main()
