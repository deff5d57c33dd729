"""What shots, hashes, tracks and spans cost of a run's CPU, and how well people are told apart.

    python benchmarks/bench_answers.py VIDEOS --clips 30

Extracts clips in this process, one thread, and times what is done for the answers only. Then composes scenes of two people of every pair of clips
with one person each, and counts identity switches and breaks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.composed_scenes import SCENES, judge
from dfd_core.answers.face_pass import UNTRACKED
from dfd_core.answers.spans import spans_of
from dfd_core.answers.tracks import tracks_of, with_tracks
from dfd_core.config import ExtractConfig, Sampling
from dfd_core.faces.detect import FrontalFaceDetector
from dfd_core.stages import extract
from dfd_core.stages.probe import plan_video

_FEWEST_SECONDS, _MOST_SECONDS = 8, 20


class Stopwatch:
    """CPU seconds of this process inside the functions that it wraps."""

    def __init__(self) -> None:
        self.cpu_s = 0.0

    def wrap(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began_s = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                self.cpu_s += time.process_time() - began_s

        return timed


def extracted(paths: list[Path], watches: dict[str, Stopwatch]) -> dict[str, dict[str, Any]]:
    """Return the rows of the clips that decode; the watches count what is done for the answers."""
    extract.appearance_of = watches["appearance"].wrap(extract.appearance_of)  # type: ignore[assignment]
    extract.ShotLog.add = watches["shots and hashes"].wrap(extract.ShotLog.add)  # type: ignore[method-assign]
    config, detect = ExtractConfig(sampling=Sampling("interval", 1.0)), FrontalFaceDetector()
    rows = {}
    for path in paths:
        plan = plan_video({"plan_key": path.name, "uri": str(path)}, config)
        if plan["error_kind"]:
            continue
        names = {"segment_id": str(path), "plan_key": str(path), "uri": str(path)}
        segment = names | {"fps": plan["fps"], "duration_s": plan["duration_s"], **plan["segments"][0]}
        rows[str(path)] = extract.extract_segment(segment, config, detect)
    return rows


def derived_cpu_s(rows: dict[str, dict[str, Any]]) -> float:
    """Return the CPU seconds that the tracks and spans of the rows take, their scores being random."""
    rng = np.random.default_rng(0)
    faces = [
        {"video_id": name, **{key: face.get(key) for key in UNTRACKED.names[1:]}, "p_fake": rng.random()}
        for name, row in rows.items()
        for face in row["faces"]
    ]
    table = pa.Table.from_pylist(faces, UNTRACKED)
    began_s = time.process_time()
    tracked = with_tracks(table)
    tracks_of(tracked)
    spans_of(tracked, threshold_low=0.4, threshold_high=0.6)
    return time.process_time() - began_s


def people(rows: dict[str, dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the faces of the clips in which each frame shows one, in one shot and for some seconds."""
    found = []
    for row in rows.values():
        frames = [face["frame_index"] for face in row["faces"]]
        if row["num_shots"] == 1 and len(frames) == len(set(frames)) >= _FEWEST_SECONDS:
            found.append(row["faces"][:_MOST_SECONDS])
    return found


@click.command()
@click.argument("videos", type=click.Path(exists=True, path_type=Path))
@click.option("--clips", default=30, show_default=True, help="Clips, taken evenly of the folder.")
def main(videos: Path, clips: int) -> None:
    """Measure on the videos of a folder."""
    # Manipulated copies show the same person in the same scene: a pair of them would not be two people.
    paths = [path for path in sorted(videos.rglob("*.mp4")) if "manipulated" not in str(path)]
    paths = paths[:: max(1, len(paths) // clips)][:clips]
    watches = {"appearance": Stopwatch(), "shots and hashes": Stopwatch()}
    rows = extracted(paths, watches)
    total_s = sum(sum(row["extract_cpu_seconds"].values()) for row in rows.values())
    frames, faces = (
        sum(row["num_frames"] for row in rows.values()),
        sum(len(row["faces"]) for row in rows.values()),
    )
    print(f"{len(rows)} clips, {frames} frames, {faces} faces: {total_s:.1f} CPU s of extraction\n")
    costs = {name: watch.cpu_s for name, watch in watches.items()} | {"tracks and spans": derived_cpu_s(rows)}
    for name, cpu_s in (costs | {"together": sum(costs.values())}).items():
        print(f"{name:<18} {cpu_s:6.2f} CPU s  {100 * cpu_s / total_s:5.2f} %")
    alone = people(rows)
    print(f"\n{len(alone)} people, {len(alone) * (len(alone) - 1) // 2} pairs; identity switches and breaks")
    with_looks, without = (judge(alone, with_appearance=known) for known in (True, False))
    print(f"{'scene':<44} {'faces':>6}  with appearance  place and size only")
    for name in SCENES:
        one, other = with_looks[name], without[name]
        print(
            f"{name:<44} {one.faces:>6}  {one.switches:>6} {one.breaks:>6}  {other.switches:>9} {other.breaks:>6}"
        )


if __name__ == "__main__":
    main()
