"""An output folder of jobs/score.py, written row by row, for what reads one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.schemas import FACES, VIDEOS

THRESHOLD = 0.5


def write_scores(folder: Path, videos: Iterable[Mapping[str, Any]], *, files: int = 1, **run: Any) -> Path:
    """Write `videos` (`video_id`, `faces` as a list of p_fake, and what else the manifest had) to `folder`.

    A video's p_fake is the mean of its faces unless it is given; without faces its status is `no_face` unless given.
    """
    rows, faces = [], []
    for video in videos:
        given = {"status": "scored" if video.get("faces") else "no_face", **video}
        scores = given.pop("faces", [])
        p_fake = given.pop("p_fake", float(np.mean(scores)) if scores else None)
        verdict = (
            None if p_fake is None else ("fake" if np.float32(p_fake) >= np.float32(THRESHOLD) else "real")
        )
        base = dict.fromkeys(VIDEOS.names) | {"uri": "/" + given["video_id"], "model_id": "m"}
        rows.append(base | {"p_fake": p_fake, "verdict": verdict} | given)
        for number, score in enumerate(scores):
            face = dict.fromkeys(FACES.names, 0)
            faces.append(face | {"video_id": given["video_id"], "frame_index": number, "p_fake": score})
    own = sorted({name for row in rows for name in row} - set(VIDEOS.names))
    schema = pa.schema([*VIDEOS, *(pa.field(name, pa.string()) for name in own)])
    for table, name in (
        (pa.Table.from_pylist(rows, schema), "videos"),
        (pa.Table.from_pylist(faces, FACES), "faces"),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        size = -(-max(len(table), 1) // files)
        for part in range(files):
            pq.write_table(table.slice(part * size, size), folder / name / f"part-{part:05d}.parquet")
    model = {"model_id": "tiny@0123456789ab", "trained": True, "threshold": THRESHOLD, "sha256": "0" * 64}
    values = {
        "outcome": "complete",
        "configuration": {},
        "attempts": [],
        "aggregation": "mean",
        "model": model,
    }
    (folder / "run.json").write_text(json.dumps(values | run))
    return folder


def many_videos(count: int = 120, *, seed: int = 3) -> list[dict[str, Any]]:
    """Return videos of two datasets, three methods and two compressions in groups of two, some of them undecided."""
    rng = np.random.default_rng(seed)
    videos = []
    for number in range(count):
        fake = number % 2 == 1
        method = ["swap", "reenact", "blend"][number % 3] if fake else None
        mean = 0.65 if fake else 0.35
        undecided = number % 15 == 7
        videos.append(
            {
                "video_id": f"v{number:03d}.mp4",
                "faces": [] if undecided else rng.beta(8 * mean, 8 * (1 - mean), rng.integers(2, 6)).tolist(),
                "status": ("failed" if number % 2 else "no_face") if undecided else "scored",
                "label": "fake" if fake else "real",
                "group": f"g{number // 2:02d}",
                "method": method,
                "dataset": "one" if number % 4 < 2 else "two",
                "compression": "c23" if number < count / 3 else "c40",
            }
        )
    return videos
