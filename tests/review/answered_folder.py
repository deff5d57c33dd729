"""An output folder with every table that a review shows: faces in tracks, spans, and kept pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.scored_folder import write_scores

QUALITY = ("face_share", "side_px", "sharpness", "brightness", "blockiness", "bits_per_pixel")
STEP_S = 0.5
BOX = {"left": 100, "top": 60, "right": 180, "bottom": 140}


def jpeg(seed: int, side: int = 96) -> bytes:
    """Return a picture of noise in one tint, so that two are told apart."""
    tint = np.random.default_rng(seed).integers(40, 215, 3)
    return cv2.imencode(".jpg", np.full((side, side, 3), tint, np.uint8))[1].tobytes()


def write_answers(
    folder: Path,
    videos: Sequence[Mapping[str, Any]],
    *,
    pictures: int = 2,
    occlusion: bool = False,
    **run: Any,
) -> Path:
    """Write `videos` to `folder`: `video_id`, `tracks` as lists of scores half a second apart, and what else is known."""
    plain = [{name: value for name, value in video.items() if name != "tracks"} for video in videos]
    scores = [list(chain(*video.get("tracks", []))) for video in videos]
    write_scores(
        folder,
        [video | ({"faces": faces} if faces else {}) for video, faces in zip(plain, scores, strict=True)],
        **run,
    )
    rows: dict[str, list[dict[str, Any]]] = {"faces": [], "tracks": [], "spans": [], "pictures": []}
    for video in videos:
        for track_id, track in enumerate(video.get("tracks", [])):
            _add_track(rows, video["video_id"], track_id, track, pictures=pictures, occlusion=occlusion)
    for name, table in rows.items():
        (folder / name).mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(table or [{"video_id": ""}]).slice(0, len(table)),
            folder / name / "part-00000.parquet",
        )
    return folder


def _add_track(
    rows: dict[str, list[dict[str, Any]]],
    video_id: str,
    track_id: int,
    track: Sequence[float],
    *,
    pictures: int,
    occlusion: bool,
) -> None:
    of = {"video_id": video_id, "track_id": track_id}
    faces = [
        of | BOX | {"frame_index": place * 15, "time_s": place * STEP_S, "face_index": track_id, "p_fake": p}
        for place, p in enumerate(track)
    ]
    rows["faces"] += faces
    p_fake = float(np.mean(track))
    rows["tracks"].append(
        of
        | {"start_s": 0.0, "end_s": faces[-1]["time_s"], "num_frames": len(faces), "num_faces": len(faces)}
        | {"p_fake": p_fake, "verdict": "fake" if p_fake >= 0.5 else "real", "uncertain_reason": None}
    )
    suspicious = [face["time_s"] for face in faces if face["p_fake"] >= 0.8]
    if suspicious:
        rows["spans"].append(
            of
            | {"span_index": 0, "start_s": min(suspicious), "end_s": max(suspicious)}
            | {"num_faces": len(suspicious), "p_fake": max(track)}
        )
    ranked = sorted(faces, key=lambda face: -face["p_fake"])
    kept = [("most", face) for face in ranked[:pictures]] + [
        ("least", face) for face in ranked[::-1][:pictures]
    ]
    for kind, face in kept:
        picture = {"kind": kind, "width": 96, "height": 96, "left": 20, "top": 20, "right": 76, "bottom": 76}
        map_ = np.linspace(-0.2, 0.4, 49, dtype=np.float32).tolist() if occlusion else None
        rows["pictures"].append(face | picture | {"jpeg": jpeg(len(rows["pictures"])), "occlusion": map_})
