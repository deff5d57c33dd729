"""The user's `tracks/`: one row for each person-on-screen, from the faces of some videos. Pure functions over tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.answers.linking import Sightings, link
from dfd_core.schemas import FACES, TRACKS

_TRIMMED = 0.2
FEWEST_FACES = 3
"""Of a track that can decide a video's score: shorter ones are often false detections."""
_BOX = ("left", "top", "right", "bottom")
_APPEARANCE_BYTES = 64


def with_tracks(faces: pa.Table) -> pa.Table:
    """Return `faces` as FACES: with `track_id`, without `appearance`.

    Args:
        faces: FACES without `track_id` and with `appearance`, whole videos, sorted by video, frame and face.
    """
    track = pa.array(link(sightings(faces)))
    table = faces.append_column(FACES.field("track_id"), track)
    return table.select(FACES.names).cast(FACES)


def sightings(faces: pa.Table) -> Sightings:
    """Return the faces of a table as arrays; a face without a shot is in shot 0."""
    appearance = faces.column("appearance")
    known = pc.fill_null(appearance.cast(pa.binary()), bytes(_APPEARANCE_BYTES)).to_pylist()
    return Sightings(
        video=video_numbers(faces),
        frame_index=faces.column("frame_index").to_numpy(),
        time_s=faces.column("time_s").to_numpy(),
        shot=pc.fill_null(faces.column("shot"), 0).to_numpy(),
        box=np.stack([faces.column(name).to_numpy() for name in _BOX], axis=1).astype(np.float32),
        appearance=np.frombuffer(b"".join(known), np.uint8).reshape(-1, _APPEARANCE_BYTES),
        is_known=pc.is_valid(appearance).to_numpy(zero_copy_only=False),
    )


def video_numbers(faces: pa.Table) -> npt.NDArray[np.int64]:
    """Return a number for the video of each face, ascending if the videos are each in one piece, (n,) int64."""
    ids = faces.column("video_id").combine_chunks()
    return np.asarray(ids.dictionary_encode().indices.to_numpy(), np.int64)


def tracks_of(faces: pa.Table) -> pa.Table:
    """Return the tracks of `faces` (FACES, whole videos) in their order: TRACKS without the verdict columns.

    `p_fake` is the mean of the track's faces without the fifth that score lowest and the fifth that score highest (rounded down).
    """
    video, track = video_numbers(faces), faces.column("track_id").to_numpy()
    p_fake = faces.column("p_fake").to_numpy()
    by_score = np.lexsort((p_fake, track, video))  # stable: the earlier of two equal faces comes first
    begins = _begins(video[by_score], track[by_score])
    counts = np.diff(np.append(begins, len(by_score)))
    by_time = np.lexsort((track, video))
    first, last = by_time[begins], by_time[begins + counts - 1]
    least, most = by_score[begins], by_score[begins + counts - 1]
    time_s, frame, face = (faces.column(name).to_numpy() for name in ("time_s", "frame_index", "face_index"))
    count = counts.astype(np.int32)
    columns = {
        "video_id": faces.column("video_id").take(pa.array(first)),
        "track_id": track[first],
        "start_s": time_s[first],
        "end_s": time_s[last],
        "first_frame_index": frame[first],
        "last_frame_index": frame[last],
        "num_frames": count,
        "num_faces": count,
        "p_fake": _trimmed_means(p_fake[by_score], begins, counts).astype(np.float32),
        "most_frame_index": frame[most],
        "most_face_index": face[most],
        "least_frame_index": frame[least],
        "least_face_index": face[least],
    }
    schema = pa.schema([TRACKS.field(name) for name in columns])
    return pa.table(columns, schema=schema)


def _begins(*keys: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return where a run of equal keys begins."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(np.append(True, changes))


def _trimmed_means(
    values: npt.NDArray[np.float32], begins: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the mean of each run of ascending values without `_TRIMMED` of them at either end."""
    cut = (counts * _TRIMMED).astype(np.int64)
    place = np.arange(len(values)) - np.repeat(begins, counts)
    is_kept = (place >= np.repeat(cut, counts)) & (place < np.repeat(counts - cut, counts))
    if not len(values):
        return np.zeros(0)
    sums = np.add.reduceat(np.where(is_kept, values, 0).astype(np.float64), begins)
    return np.asarray(sums / (counts - 2 * cut), np.float64)


def worst_scores(tracks: pa.Table) -> pa.Table:
    """Return `video_id` and the highest `p_fake` of its tracks, for each video of `tracks` that has several.

    Only tracks of at least `FEWEST_FACES` faces count. A video with one of them or none is not in the result.
    """
    counted = tracks.filter(pc.greater_equal(tracks.column("num_faces"), FEWEST_FACES))
    video, p_fake = video_numbers(counted), counted.column("p_fake").to_numpy()
    order = np.lexsort((p_fake, video))
    begins = _begins(video[order])
    ends = np.append(begins[1:], len(order)) - 1 if len(begins) else begins
    worst = order[ends[ends > begins]]
    return counted.select(["video_id", "p_fake"]).take(pa.array(worst))
