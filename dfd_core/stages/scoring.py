"""STAGE 2, score: faces of several segments in model batches. One segment in, one row out; the pixels are dropped."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.errors import UnscorableError
from dfd_core.schemas import SEGMENT_RESULT, check
from dfd_core.stages import keeping
from dfd_core.stages.occlusion import occlusion_map

Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Faces, (n, height, width, 3) uint8 RGB → p_fake, (n,) float32 in [0, 1]."""


def score_segments(
    segments: pa.Table, predict: Predict, *, crop_px: int, keep_faces: int = 0, explain: bool = False
) -> pa.Table:
    """Return `segments` (`schemas.face_crops`) with each crop replaced by its `p_fake`: SEGMENT_RESULT.

    A face for which the model returns no number is dropped and its segment says so: kind `unscorable`.

    Args:
        segments: (n rows) segments, their faces inside.
        predict: The model.
        crop_px: Side of a crop, pixels.
        keep_faces: Pictures that a video keeps in the end; with any, each face has one.
        explain: Whether kept faces get an occlusion map.
    """
    segments = segments.combine_chunks()
    begun_at, started_s, started_cpu_s = time.time(), time.perf_counter(), time.process_time()
    faces = pc.list_flatten(segments.column("faces")).combine_chunks()
    p_fake = predict(crops_of(faces, crop_px))
    pictures = _pictures(segments, faces, p_fake, predict, crop_px=crop_px, keep=keep_faces, explain=explain)
    share = 1 / max(1, segments.num_rows)
    infer_s = (time.perf_counter() - started_s) * share
    infer_cpu_s = (time.process_time() - started_cpu_s) * share
    columns = {name: segments.column(name) for name in segments.column_names if name != "faces"}
    waited_s = begun_at - segments.column("extracted_at").to_numpy()
    columns["queue_s"] = pa.array(np.maximum(waited_s, 0.0))
    columns["infer_s"] = pa.array(np.full(segments.num_rows, infer_s))
    columns["infer_cpu_s"] = pa.array(np.full(segments.num_rows, infer_cpu_s))
    offsets = _offsets(segments.column("faces"))
    faces, p_fake, offsets, columns = _drop_unscorable(faces, p_fake, offsets, columns)
    face_type = SEGMENT_RESULT.field("faces").type.value_type
    values = [pa.array(p_fake) if field.name == "p_fake" else faces.field(field.name) for field in face_type]
    structs = pa.StructArray.from_arrays(values, fields=list(face_type))
    columns["pictures"] = pictures
    columns["faces"] = pa.ListArray.from_arrays(offsets, structs, type=SEGMENT_RESULT.field("faces").type)
    table = pa.Table.from_arrays([columns[name] for name in SEGMENT_RESULT.names], schema=SEGMENT_RESULT)
    return check(table, SEGMENT_RESULT)


def _pictures(
    segments: pa.Table,
    faces: pa.StructArray,
    p_fake: npt.NDArray[np.float32],
    predict: Predict,
    *,
    crop_px: int,
    keep: int,
    explain: bool,
) -> pa.Array:
    """Return the pictures that each segment keeps; nulls if none are asked for. A face without a number is ranked as 0."""
    if not keep:
        return pa.nulls(segments.num_rows, keeping.PICTURES)
    scores, crops = np.nan_to_num(p_fake, nan=0.0), crops_of(faces, crop_px)

    def map_of(position: int) -> list[float]:
        return occlusion_map(crops[position], float(scores[position]), predict)

    offsets = _offsets(segments.column("faces")).to_numpy()
    return keeping.pictures_of(faces, scores, offsets, keep=keep, explain=map_of if explain else None)


def crops_of(faces: pa.StructArray, crop_px: int) -> npt.NDArray[np.uint8]:
    """Return the crops of `faces` as (n, crop_px, crop_px, 3) uint8 RGB, without a copy."""
    crops = faces.field("crop")
    size = crop_px * crop_px * 3
    if len(crops) == 0:
        return np.zeros((0, crop_px, crop_px, 3), np.uint8)
    pixels = np.frombuffer(crops.buffers()[1], np.uint8, count=len(crops) * size, offset=crops.offset * size)
    return pixels.reshape(len(crops), crop_px, crop_px, 3)


def _offsets(lists: pa.ChunkedArray) -> pa.Array:
    lengths = pc.list_value_length(lists).to_numpy()
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _drop_unscorable(
    faces: pa.StructArray,
    p_fake: npt.NDArray[np.float32],
    offsets: pa.Array,
    columns: dict[str, pa.ChunkedArray | pa.Array],
) -> tuple[pa.StructArray, npt.NDArray[np.float32], pa.Array, dict[str, pa.ChunkedArray | pa.Array]]:
    good = np.isfinite(p_fake)
    if good.all():
        return faces, p_fake, offsets, columns
    edges = offsets.to_numpy()
    bad_before = np.concatenate([[0], np.cumsum(~good)])
    bad = bad_before[edges[1:]] - bad_before[edges[:-1]]
    message = [f"The model returned no number for {count} of the faces" if count else None for count in bad]
    columns = {
        **columns,
        "error_kind": pc.if_else(pa.array(bad > 0), UnscorableError.kind, columns["error_kind"]),
        "error_message": pc.if_else(
            pa.array(bad > 0), pa.array(message, pa.string()), columns["error_message"]
        ),
    }
    kept = pa.array((edges - bad_before[edges]).astype(np.int32))
    return faces.filter(pa.array(good)), p_fake[good], kept, columns
