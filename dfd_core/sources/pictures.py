"""A source of face pictures instead of videos: what it holds, as a manifest, plans and runs of pictures.

Two kinds are known: the output folder of `jobs/extract_faces.py`, and Parquet tables made elsewhere, one picture a row.
No picture is read here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import DfdError, ManifestError, OutputError
from dfd_core.faces.images import FaceColumns
from dfd_core.run import commit_log
from dfd_core.run.output_folder import OutputFolder, read_table
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import (
    FACE_IMAGES,
    FACE_RUN,
    MANIFEST,
    SEGMENT,
    SEGMENT_PICTURES,
    SEGMENT_RANGE,
    VIDEO_PLAN,
    check,
)
from dfd_core.sources.manifest import refuse_reserved, refuse_rows, with_text_labels
from dfd_core.storage import address as storage

JOB = "extract_faces"
"""What `run.json` of a folder of faces names as its job."""

RUNS = pa.schema(
    [
        pa.field("plan_key", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        *(field for field in FACE_RUN if field.name not in SEGMENT.names),
        pa.field("group_rows", pa.int64(), nullable=False),
    ]
)
"""Where the pictures of a segment are: `position` is the segment's in its video, `group_rows` the size of the largest row
group of its file."""

_OF_SEGMENT = ["segment_id", "plan_key", "num_frames", "error_kind", "extracted_at"]
_OF_FACE = frozenset(FACE_IMAGES.names) - {"video_id", "image"}
_LONGEST_RUN = 512
_TABLE = "the table of pictures"


@dataclass(frozen=True, slots=True)
class FaceSource:
    """A list of videos whose faces are there already.

    Attributes:
        kind: `faces` for a folder of `jobs/extract_faces.py`, `face_table` for tables made elsewhere.
        table: MANIFEST, then the user's own columns.
        plans: VIDEO_PLAN of each video; nothing of a video is known that the source does not say.
        runs: RUNS, one row per segment.
        made_with: Of a folder of faces, the settings that decide what is on the pictures.
    """

    kind: str
    table: pa.Table
    plans: pa.Table
    runs: pa.Table
    made_with: dict[str, Any] = field(default_factory=dict)

    def renamed(self, plan_keys: pa.ChunkedArray) -> FaceSource:
        """Return the source with other plan keys, in the order of its manifest's rows."""
        position = pa.array(np.arange(self.table.num_rows))
        own = self.table.column("plan_key").combine_chunks()

        def rename(table: pa.Table) -> pa.Table:
            rows = position.take(pc.index_in(table.column("plan_key"), value_set=own))
            where = table.schema.get_field_index("plan_key")
            return table.set_column(where, table.schema.field(where), plan_keys.take(rows))

        return replace(self, plans=rename(self.plans), runs=rename(self.runs))


def read_face_source(source: str) -> FaceSource | None:
    """Return the pictures that `source` names, or None if it does not name pictures.

    Raises:
        ManifestError: It does, and they cannot be used; the message names the rows.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    if not storage.is_text(source):
        return None
    folder = OutputFolder(source)
    fs, path = storage.filesystem(source)
    try:
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.Directory and storage.exists(folder.run_json):
            return _of_folder(folder) if _is_of_faces(folder) else None
        files = _parquet_files(fs, path, kind)
        if not files or not _holds_pictures(fs, files[0].path):
            return None
    except OSError:  # who lists the videos says what it is
        return None
    try:
        return _of_tables(source, fs, files)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(
            f"The pictures at {source!r} cannot be read: {storage.one_line(error)}"
        ) from error


def commit_plans(out: OutputFolder, source: FaceSource) -> None:
    """Add the plans of `source` that `out` does not have yet to its log.

    Raises:
        OutputError: They cannot be written.
    """
    planned = commit_log.committed(out.checkpoint("plan"), "plan_key")
    new = source.plans.filter(pc.invert(pc.is_in(source.plans.column("plan_key"), value_set=planned)))
    if new.num_rows:
        commit_log.append(out.checkpoint("plan"), out.plans, new)


# --- the output folder of jobs/extract_faces.py -------------------------------------------------------------------


def _is_of_faces(folder: OutputFolder) -> bool:
    try:
        record = RunRecord.read(folder)
    except OutputError:  # somebody else's
        return False
    return record is not None and record.values["configuration"].get("job") == JOB


def _of_folder(folder: OutputFolder) -> FaceSource:
    record = RunRecord.read(folder)
    settings = {} if record is None else record.values["configuration"]
    try:
        manifest = read_table(folder.manifest)
        plans = _bare_plans(folder, manifest.column("plan_key"))
        runs = _runs_of_log(folder)
    except (OSError, pa.ArrowException, DfdError) as error:
        raise ManifestError(
            f"The faces in {folder.root} cannot be read: {storage.one_line(error)}"
        ) from error
    num_segments = pc.sum(pc.list_value_length(plans.column("segments"))).as_py() or 0
    runs = runs.filter(pc.is_in(runs.column("plan_key"), value_set=plans.column("plan_key")))
    if plans.num_rows < manifest.num_rows or runs.num_rows < num_segments:
        raise ManifestError(
            f"The faces in {folder.root} are not complete: {manifest.num_rows - plans.num_rows} videos are not planned "
            f"and {num_segments - runs.num_rows} segments are not done. The command that fills the folder completes it."
        )
    made_with = {name: settings[name] for name in ("margin", "image_format", "sampling")}
    made_with["detect_max_side_px"] = settings.get("detect_max_side_px")  # a folder of before has none
    return FaceSource("faces", manifest, plans, runs, made_with)


def _bare_plans(folder: OutputFolder, keys: pa.ChunkedArray) -> pa.Table:
    """Return the committed plans of the videos `keys`, each once, without their frames and without their cost."""
    log = commit_log.rows(folder.checkpoint("plan"), folder.plans, VIDEO_PLAN)
    parts = [VIDEO_PLAN.empty_table()]
    for batch in log.to_batches(filter=pc.field("plan_key").isin(keys.combine_chunks()), batch_size=1024):
        plans = pa.Table.from_batches([batch])
        at = plans.schema.get_field_index
        parts.append(
            plans.set_column(at("segments"), VIDEO_PLAN.field("segments"), _without_frames(plans["segments"]))
        )
    plans = commit_log.each_once(pa.concat_tables(parts), "plan_key")
    for name in ("probe_s", "probe_cpu_s"):
        column = pa.array(np.zeros(plans.num_rows))
        plans = plans.set_column(plans.schema.get_field_index(name), VIDEO_PLAN.field(name), column)
    return plans


def _without_frames(segments: pa.ChunkedArray) -> pa.Array:
    lists = segments.combine_chunks()
    ranges = lists.flatten()
    values = [
        ranges.field(part.name) if part.name in ("start_s", "end_s") else pa.nulls(len(ranges), part.type)
        for part in SEGMENT_RANGE
    ]
    structs = pa.StructArray.from_arrays(values, fields=list(SEGMENT_RANGE))
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    return _lists(lengths, structs, VIDEO_PLAN.field("segments").type)


def _lists(lengths: npt.NDArray[np.int64], values: pa.Array, kind: pa.DataType) -> pa.Array:
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def _runs_of_log(folder: OutputFolder) -> pa.Table:
    """Return where the committed segments of a folder of faces are, each once."""
    fs, _ = storage.filesystem(folder.results)
    columns = pa.schema([SEGMENT_PICTURES.field(name).with_nullable(True) for name in _OF_SEGMENT])
    schema = pa.schema([*columns, ("table", pa.string()), ("first_row", pa.int64())])
    parts = [schema.empty_table()]
    for path in commit_log.data_files(folder.checkpoint("segments"), folder.results):
        rows = ds.dataset([path], schema=columns, filesystem=fs, format="parquet").to_table()
        table = _absolute(storage.join(folder.results, path.rpartition("/")[2]))
        rows = rows.append_column("table", pa.array([table] * rows.num_rows))
        rows = rows.append_column("first_row", pa.array(np.arange(rows.num_rows)))
        parts.append(rows.cast(schema))
    rows = commit_log.each_once(pa.concat_tables(parts), "segment_id")
    found = {
        "plan_key": rows.column("plan_key"),
        "position": [int(name.rpartition("-")[2]) for name in rows.column("segment_id").to_pylist()],
        "table": rows.column("table"),
        "first_row": rows.column("first_row"),
        "num_rows": np.ones(rows.num_rows, np.int32),
        "first_position": np.zeros(rows.num_rows, np.int64),
        "num_frames": rows.column("num_frames"),
        "group_rows": np.ones(rows.num_rows, np.int64),
    }
    return pa.table(found).cast(RUNS)


# --- tables made elsewhere ----------------------------------------------------------------------------------------


def _parquet_files(fs: pafs.FileSystem, path: str, kind: pafs.FileType) -> list[pafs.FileInfo]:
    """Return the file at `path`, or those in it if there is nothing else, if they are named like Parquet."""
    if kind == pafs.FileType.File:
        infos = [fs.get_file_info(path)]
    elif kind == pafs.FileType.Directory:
        if isinstance(fs, pafs.LocalFileSystem) and not _are_parquet(path):
            return []  # without asking for the size of each of a million videos
        infos = [info for info in fs.get_file_info(pafs.FileSelector(path)) if info.base_name[0] not in "._"]
    else:
        return []
    if any(info.type != pafs.FileType.File or not info.path.endswith(".parquet") for info in infos):
        return []
    return sorted(infos, key=lambda info: str(info.path))


def _are_parquet(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return all(entry.name[0] in "._" or entry.name.endswith(".parquet") for entry in entries)


def _holds_pictures(fs: pafs.FileSystem, path: str) -> bool:
    try:
        schema = pq.read_schema(path, filesystem=fs)
        FaceColumns.of(schema)
    except (ManifestError, pa.ArrowException):
        return False
    return "uri" not in schema.names


@dataclass(frozen=True, slots=True)
class _File:
    uri: str
    num_rows: int
    group_rows: int
    version: tuple[Any, ...]


def _of_tables(source: str, fs: pafs.FileSystem, infos: Sequence[pafs.FileInfo]) -> FaceSource:
    columns = FaceColumns.of(pq.read_schema(infos[0].path, filesystem=fs))
    files, rows = [], []
    for info in infos:
        metadata = pq.read_metadata(info.path, filesystem=fs)
        groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        version = (info.base_name, info.size, info.mtime_ns)
        files.append(_File(_address(source, info), metadata.num_rows, max(groups, default=0), version))
        names = [name for name in pq.read_schema(info.path, filesystem=fs).names if name != columns.image]
        rows.append(pq.read_table(info.path, filesystem=fs, columns=names, partitioning=None))
    given = pa.concat_tables(rows)
    if given.num_rows == 0:
        raise ManifestError("The table of pictures has no rows")
    given = given.rename_columns(
        ["video_id" if name == columns.video_id else name for name in given.column_names]
    )
    given = with_text_labels(given, of=_TABLE)
    for name in _OF_FACE.intersection(given.column_names):
        given.column(name).cast(FACE_IMAGES.field(name).type)  # what a worker will do
    own = [name for name in given.column_names if name != "video_id" and name not in _OF_FACE]
    refuse_reserved(["video_id", *own], of="The table of pictures")
    return _grouped(given, own, files)


def _address(source: str, info: pafs.FileInfo) -> str:
    """Return the address of a file that is `source` or lies in it."""
    name = source.partition("?")[0].rstrip("/").rpartition("/")[2]
    is_file = name == info.base_name and not storage.exists(storage.join(source, info.base_name))
    return _absolute(source if is_file else storage.join(source, info.base_name))


def _absolute(address: str) -> str:
    """Return the address for workers, which run in other folders."""
    return address if storage.is_remote(address) else storage.local_uri(storage.local_path(address))


def _grouped(given: pa.Table, own: list[str], files: Sequence[_File]) -> FaceSource:
    """Return the source of the rows `given`: those with the same `video_id` are one video's, in their order."""
    rows = pd.DataFrame({"video_id": given.column("video_id").cast(pa.string()).to_pandas()})
    missing = rows["video_id"].isna() | (rows["video_id"] == "")
    refuse_rows(np.flatnonzero(missing).tolist(), "has no name of what it is taken from", of=_TABLE)
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
    return FaceSource("face_table", manifest, _empty_plans(keys, num_runs), _as_runs(runs, keys, files))


def _refuse_contradictions(given: pa.Table, video: Any, first_rows: Any) -> None:
    """Raise ManifestError where the pictures of one video have different labels or groups, or one is there twice."""
    for name in ("label", "group"):
        if name in given.column_names:
            codes = pd.factorize(given.column(name).to_pandas(), use_na_sentinel=True)[0]
            wrong = np.flatnonzero(codes != codes[first_rows][video])
            refuse_rows(wrong.tolist(), f"has another {name} than the first of its video", of=_TABLE)
    if {"frame_index", "face_index"} <= set(given.column_names):
        keys = given.select(["frame_index", "face_index"]).to_pandas().assign(video=video)
        refuse_rows(np.flatnonzero(keys.duplicated()).tolist(), "repeats a face of a frame", of=_TABLE)


def _are_new_frames(given: pa.Table, video: pd.Series) -> Any:
    """Return for each row whether it is the first of its frame; without `frame_index` each picture is a frame."""
    if "frame_index" not in given.column_names:
        return np.ones(given.num_rows, bool)
    index = given.column("frame_index")
    refuse_rows(np.flatnonzero(index.is_null().to_numpy()).tolist(), "has no frame_index", of=_TABLE)
    return ~pd.DataFrame({"video": video, "frame": index.to_pandas()}).duplicated().to_numpy()


def _runs_of_rows(rows: pd.DataFrame, files: Sequence[_File]) -> pd.DataFrame:
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
    video_ids: list[str], runs: pd.DataFrame, num_runs: npt.NDArray[np.int64], files: Sequence[_File]
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
        "segments": _lists(num_segments, ranges, VIDEO_PLAN.field("segments").type),
    }
    return check(pa.table(columns, schema=VIDEO_PLAN), VIDEO_PLAN)


def _as_runs(runs: pd.DataFrame, keys: list[str], files: Sequence[_File]) -> pa.Table:
    columns = {
        "plan_key": np.asarray(keys, object)[runs["video"]],
        "position": runs.groupby("video").cumcount().to_numpy(),
        "table": np.asarray([file.uri for file in files], object)[runs["file"]],
        **{name: runs[name].to_numpy() for name in ("first_row", "num_rows", "first_position", "num_frames")},
        "group_rows": np.asarray([file.group_rows for file in files])[runs["file"]],
    }
    return check(pa.table(columns).cast(RUNS), RUNS)
