"""The user's `spans/`: the suspicious stretches of each track. Pure functions over tables.

A span is a maximal run of successive faces of one track that all score at least the low threshold, one of which scores at least the high one
(hysteresis). It runs from the time of its first face to that of its last; what lies between two sampled frames is not known.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dfd_core.answers.tracks import video_numbers
from dfd_core.schemas import SPANS


def spans_of(faces: pa.Table, *, threshold_low: float, threshold_high: float) -> pa.Table:
    """Return the spans (SPANS) of `faces` (FACES), whole videos, sorted by video, track and time.

    Args:
        faces: Sorted by video, frame and face.
        threshold_low: `p_fake` of every face of a span, at least; compared as float32.
        threshold_high: `p_fake` of one face of a span, at least.
    """
    video, track = video_numbers(faces), faces.column("track_id").to_numpy()
    order = np.lexsort((track, video))  # stable: within a track the faces stay in the order of time
    video, track = video[order], track[order]
    p_fake, time_s = faces.column("p_fake").to_numpy()[order], faces.column("time_s").to_numpy()[order]
    is_low = p_fake >= np.float32(threshold_low)
    follows = np.append(False, is_low[:-1] & (video[1:] == video[:-1]) & (track[1:] == track[:-1]))
    begins = np.flatnonzero(is_low & ~follows)
    if not begins.size:
        return SPANS.empty_table()
    run = np.cumsum(is_low & ~follows)[is_low] - 1
    highest = np.full(len(begins), -np.inf)
    np.maximum.at(highest, run, p_fake[is_low])
    counts = np.bincount(run)
    sums = np.bincount(run, p_fake[is_low].astype(np.float64))
    kept = np.flatnonzero(highest >= np.float32(threshold_high))
    begins, counts, sums = begins[kept], counts[kept], sums[kept]
    columns = {
        "video_id": faces.column("video_id").take(pa.array(order[begins])),
        "track_id": track[begins],
        "span_index": _places(video[begins], track[begins]),
        "start_s": time_s[begins],
        "end_s": time_s[begins + counts - 1],
        "num_faces": counts.astype(np.int32),
        "p_fake": (sums / counts).astype(np.float32),
    }
    return pa.table(columns, schema=SPANS)


def _places(
    video: np.typing.NDArray[np.int64], track: np.typing.NDArray[np.int32]
) -> np.typing.NDArray[np.int32]:
    """Return the position of each span among those of its track."""
    at = np.arange(len(video))
    if not len(video):
        return at.astype(np.int32)
    is_first = np.append(True, (video[1:] != video[:-1]) | (track[1:] != track[:-1]))
    return (at - np.maximum.accumulate(np.where(is_first, at, 0))).astype(np.int32)
