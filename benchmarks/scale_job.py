"""The scoring job with nothing to decode and nothing to score: python -m benchmarks.scale_job MANIFEST OUT FACTS.

Everything but the work inside the stages is the job's own: reading the manifest, planning, streaming, committing,
merging, deriving the tables. A plan says 16 s of video; a segment has `DFD_SCALE_FACES` faces with pixels of full size.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dfd.archive import run as archive_run
from dfd.archive import scoring
from dfd.cluster import runtime
from dfd.commands import score

NUM_FACES = int(os.environ.get("DFD_SCALE_FACES", "16"))
DURATION_S = 16.0

_FACE = {
    "left": 100,
    "top": 80,
    "right": 228,
    "bottom": 208,
    "detector_confidence": 0.5,
}


def plan_block(requests: pa.Table, *, config: Any) -> pa.Table:
    """Return a plan of one segment for every video."""
    from dfd_core.schemas import VIDEO_PLAN, to_table
    from dfd_core.stages.plan import WHOLE_VIDEO

    row = {"fps": 25.0, "duration_s": DURATION_S, "width": 1280, "height": 720}
    row |= {"error_kind": None, "error_message": None, "segments": [WHOLE_VIDEO.as_row()]}
    row |= {name: 0.01 for name in VIDEO_PLAN.names if name.startswith("probe")}
    return to_table([row | {"plan_key": key} for key in requests.column("plan_key").to_pylist()], VIDEO_PLAN)


def extract_block(segments: pa.Table, *, config: Any, **_: Any) -> Iterator[pa.Table]:
    """Yield the faces of a block of segments, as `stages.extract_block` does."""
    from dfd.archive import stages
    from dfd_core.errors import UnexpectedError
    from dfd_core.schemas import face_crops
    from dfd_core.stages.extract import failed_segment

    schema, crop = face_crops(config.crop_px), bytes(config.crop_px**2 * 3)
    faces = [
        {**_FACE, "frame_index": 26 * n, "time_s": 1.04 * n, "face_index": 0, "crop": crop}
        for n in range(NUM_FACES)
    ]

    def done(row: dict[str, Any]) -> dict[str, Any]:
        empty = failed_segment(row, UnexpectedError(""), config, lost_s=0.0)
        counts = {"num_frames_wanted": NUM_FACES, "num_frames": NUM_FACES}
        return empty | {"error_kind": None, "error_message": None, "faces": faces} | counts

    yield from stages._tables(map(done, segments.to_pylist()), schema)


class Score:
    """Gives every face a number by its place, and reports as the job's own actor does."""

    def __init__(self, *, crop_px: int, tally: Any, **_: Any) -> None:
        self._crop_px = crop_px
        self._tally = tally
        tally.loaded.remote("float32", "cpu")

    def __call__(self, segments: pa.Table) -> pa.Table:
        """Return the results of a block of segments."""
        import numpy as np

        from dfd.archive import stages
        from dfd_core.stages.scoring import score_segments

        results = score_segments(
            segments, lambda crops: np.linspace(0, 1, len(crops), dtype=np.float32), crop_px=self._crop_px
        )
        stages._report(self._tally, results)
        return results


def main(manifest: str, out: str, facts: str) -> None:
    """Run the job and write what it took to `facts`, JSON."""
    found: dict[str, Any] = {"object_store_mb": 0.0}
    scoring.finish = _timed(scoring.finish, found, "finish_s")  # type: ignore[assignment]
    archive_run.Attempt.plan = _timed(archive_run.Attempt.plan, found, "plan_s")  # type: ignore[method-assign]
    run_segments = _timed(archive_run.Attempt.run_segments, found, "segments_s")
    archive_run.Attempt.run_segments = run_segments  # type: ignore[method-assign]
    runtime.start_logging(verbose=False)
    began_s = time.monotonic()
    with runtime.ray_cluster("local", verbose=False):
        found["ray_s"] = time.monotonic() - began_s
        from dfd.archive import stages

        stages.plan_block, stages.extract_block = plan_block, extract_block
        stages.ScoreBlock = Score  # type: ignore[assignment, misc]
        threading.Thread(target=_watch_store, args=(found,), daemon=True).start()
        # Of a cluster that is there already the driver opens no video itself.
        request = score.ScoreRequest(
            source=manifest, model="untrained:mobilenet_v3_small", out=out, address="auto"
        )
        status = score.run(request)
    found["wall_s"] = time.monotonic() - began_s
    Path(facts).write_text(json.dumps(found))
    sys.exit(status)


def _timed(work: Callable[..., Any], found: dict[str, Any], name: str) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        began_s = time.monotonic()
        try:
            return work(*arguments, **options)
        finally:
            found[name] = time.monotonic() - began_s

    return run


def _watch_store(found: dict[str, Any]) -> None:
    import ray

    total = ray.cluster_resources()["object_store_memory"]
    while ray.is_initialized():
        used_mb = (total - ray.available_resources().get("object_store_memory", 0.0)) / 1e6
        found["object_store_mb"] = max(found["object_store_mb"], used_mb)
        time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
