"""The rows of tables of pictures, grouped by their videos, as a manifest, plans and runs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dfd_core.schemas import MANIFEST, SEGMENT_RANGE, VIDEO_PLAN, check
from dfd_core.sources.manifest import refuse_rows
from dfd_core.sources.pictures.runs import RUNS, PictureSource, list_array

_LONGEST_RUN = 512
TABLE = "the table of pictures"
"""What messages call the source."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file of pictures.

    Attributes:
        uri: Its address.
        num_rows: Pictures in it.
        group_rows: Rows of its largest row group.
        version: Its name, size and time of change.
    """

    uri: str
    num_rows: int
    group_rows: int
    version: tuple[Any, ...]


def grouped(given: pa.Table, own: list[str], files: Sequence[TableFile]) -> PictureSource:
    """Return the rows `given` as a source. Rows with the same `video_id` are of one video, in their order."""
    rows = pd.DataFrame({"video_id": given.column("video_id").cast(pa.string()).to_pandas()})
    missing = rows["video_id"].isna() | (rows["video_id"] == "")
    refuse_rows(np.flatnonzero(missing).tolist(), "has no name of what it is taken from", of=TABLE)
    rows["video"] = pd.factorize(rows["video_id"])[0]
    first_rows = np.flatnonzero(~rows["video"].duplicated().to_numpy())
    _refuse_contradictions(given, rows["video"].to_numpy(), first_rows)
    rows["is_frame"] = _are_new_frames(given, rows["video"])
    runs = _runs_of_rows(rows, files).sort_values("video", kind="stable")
    num_runs = np.bincount(runs["video"])
    video_ids = rows["video_id"].to_numpy()[first_rows].tolist()
    keys = _plan_keys(video_ids, runs, num_runs, files)
    uris = [files[n].uri for n in runs["file"].to_numpy()[np.cumsum(num_runs) - num_runs]]
    manifest = _manifest(video_ids, uris, keys)
    for name in own:
        values = given.column(name).take(pa.array(first_rows))
        values = values.cast(pa.string()) if pa.types.is_null(values.type) else values
        manifest = manifest.append_column(name, values)
    return PictureSource("face_table", manifest, _empty_plans(keys, num_runs), _as_runs(runs, keys, files))


def _refuse_contradictions(given: pa.Table, video: Any, first_rows: Any) -> None:
    """Raise ManifestError if pictures of one video differ in label or group, or two are of one face."""
    for name in ("label", "group"):
        if name in given.column_names:
            codes = pd.factorize(given.column(name).to_pandas(), use_na_sentinel=True)[0]
            wrong = np.flatnonzero(codes != codes[first_rows][video])
            refuse_rows(wrong.tolist(), f"has another {name} than the first of its video", of=TABLE)
    if {"frame_index", "face_index"} <= set(given.column_names):
        keys = given.select(["frame_index", "face_index"]).to_pandas().assign(video=video)
        refuse_rows(np.flatnonzero(keys.duplicated()).tolist(), "repeats a face of a frame", of=TABLE)


def _are_new_frames(given: pa.Table, video: pd.Series) -> Any:
    """Return for each row whether it is the first of its frame; without `frame_index` each picture is a frame."""
    if "frame_index" not in given.column_names:
        return np.ones(given.num_rows, bool)
    index = given.column("frame_index")
    refuse_rows(np.flatnonzero(index.is_null().to_numpy()).tolist(), "has no frame_index", of=TABLE)
    return ~pd.DataFrame({"video": video, "frame": index.to_pandas()}).duplicated().to_numpy()


def _runs_of_rows(rows: pd.DataFrame, files: Sequence[TableFile]) -> pd.DataFrame:
    """Return the runs of consecutive rows of one video in one file, none longer than `_LONGEST_RUN`."""
    counts = [file.num_rows for file in files]
    rows["file"] = np.repeat(np.arange(len(files)), counts)
    rows["row"] = np.concatenate([np.arange(count) for count in counts])
    rows["position"] = rows.groupby("video").cumcount()
    is_start = (rows[["video", "file"]] != rows[["video", "file"]].shift()).any(axis=1)
    in_run = rows.groupby(is_start.cumsum()).cumcount()
    rows["run"] = (is_start | (in_run % _LONGEST_RUN == 0)).cumsum()
    return rows.groupby("run", sort=True).agg(
        video=("video", "first"),
        file=("file", "first"),
        first_row=("row", "first"),
        num_rows=("row", "size"),
        first_position=("position", "first"),
        num_frames=("is_frame", "sum"),
    )


def _plan_keys(
    video_ids: list[str], runs: pd.DataFrame, num_runs: npt.NDArray[np.int64], files: Sequence[TableFile]
) -> list[str]:
    """Return a hash of each video's name, rows, and its files' names, sizes and times."""
    places = iter(runs[["file", "first_row", "num_rows"]].to_numpy().tolist())
    keys = []
    for video_id, count in zip(video_ids, num_runs, strict=True):
        found = [(*files[file].version, *rest) for file, *rest in itertools.islice(places, int(count))]
        text = json.dumps([video_id, found])
        keys.append(hashlib.blake2b(text.encode(), digest_size=10).hexdigest())
    return keys


def _manifest(video_ids: list[str], uris: list[str], keys: list[str]) -> pa.Table:
    columns = {
        "manifest_row": np.arange(len(keys)),
        "video_id": video_ids,
        "uri": uris,
        "plan_key": keys,
        "size_bytes": pa.nulls(len(keys), pa.int64()),
        "modified_ns": pa.nulls(len(keys), pa.int64()),
    }
    return check(pa.table(columns).cast(MANIFEST), MANIFEST)


def _empty_plans(keys: list[str], num_segments: Any) -> pa.Table:
    """Return plans that only say how many segments each video has."""
    ranges = pa.array(
        [{"start_s": 0.0, "end_s": 0.0}] * int(num_segments.sum()), pa.struct(list(SEGMENT_RANGE))
    )
    columns = {name: pa.nulls(len(keys), VIDEO_PLAN.field(name).type) for name in VIDEO_PLAN.names}
    columns |= {
        "plan_key": pa.array(keys, pa.string()),
        **dict.fromkeys(("probe_s", "probe_cpu_s"), pa.array(np.zeros(len(keys)))),
        "segments": list_array(num_segments, ranges, VIDEO_PLAN.field("segments").type),
    }
    return check(pa.table(columns, schema=VIDEO_PLAN), VIDEO_PLAN)


def _as_runs(runs: pd.DataFrame, keys: list[str], files: Sequence[TableFile]) -> pa.Table:
    columns = {
        "plan_key": np.asarray(keys, object)[runs["video"]],
        "position": runs.groupby("video").cumcount().to_numpy(),
        "table": np.asarray([file.uri for file in files], object)[runs["file"]],
        **{name: runs[name].to_numpy() for name in ("first_row", "num_rows", "first_position", "num_frames")},
        "group_rows": np.asarray([file.group_rows for file in files])[runs["file"]],
    }
    return check(pa.table(columns).cast(RUNS), RUNS)
