"""The output folder of `dfd faces` as a source of pictures."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from dfd_core.errors import DfdError, ManifestError, OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import SEGMENT_PICTURES, SEGMENT_RANGE, VIDEO_PLAN
from dfd_core.sources.pictures.runs import RUNS, PictureSource, absolute, list_array
from dfd_core.storage.tables import read_table
from dfd_core.storage.text import one_line
from dfd_core.storage.uri import join_uri

JOB = "extract_faces"
"""The job in the `run.json` of a folder of faces."""
_OF_SEGMENT = ["segment_id", "plan_key", "num_frames", "error_kind", "extracted_at"]


def is_of_faces(folder: OutputFolder) -> bool:
    """Return whether an output folder was made by `dfd faces`."""
    try:
        record = RunRecord.read(folder)
    except OutputError:  # somebody else's
        return False
    return record is not None and record.values["configuration"].get("job") == JOB


def read_folder(folder: OutputFolder) -> PictureSource:
    """Return the pictures of a folder of `dfd faces`.

    Raises:
        ManifestError: They cannot be read, or the folder is not complete.
    """
    record = RunRecord.read(folder)
    settings = {} if record is None else record.values["configuration"]
    try:
        manifest = read_table(folder.manifest)
        plans = _bare_plans(folder, manifest.column("plan_key"))
        runs = _runs_of_log(folder)
    except (OSError, pa.ArrowException, DfdError) as error:
        raise ManifestError(f"The faces in {folder.root} cannot be read: {one_line(error)}") from error
    num_segments = pc.sum(pc.list_value_length(plans.column("segments"))).as_py() or 0
    runs = runs.filter(pc.is_in(runs.column("plan_key"), value_set=plans.column("plan_key")))
    if plans.num_rows < manifest.num_rows or runs.num_rows < num_segments:
        raise ManifestError(
            f"The faces in {folder.root} are not complete: {manifest.num_rows - plans.num_rows} videos are not planned "
            f"and {num_segments - runs.num_rows} segments are not done. The command that fills the folder completes it."
        )
    made_with = {name: settings[name] for name in ("margin", "image_format", "sampling")}
    made_with["detect_max_side_px"] = settings.get("detect_max_side_px")  # older folders have none of these
    made_with["detector"] = settings.get("detector", "dlib")
    if "detector_version" in settings:
        made_with["detector_version"] = settings["detector_version"]
    return PictureSource("faces", manifest, plans, runs, made_with)


def _bare_plans(folder: OutputFolder, keys: pa.ChunkedArray) -> pa.Table:
    """Return the committed plans of the videos `keys`, each once, without frames and costs."""
    log = folder.plan_log.rows()
    parts = [VIDEO_PLAN.empty_table()]
    for batch in log.to_batches(filter=pc.field("plan_key").isin(keys.combine_chunks()), batch_size=1024):
        plans = pa.Table.from_batches([batch])
        at = plans.schema.get_field_index
        parts.append(
            plans.set_column(at("segments"), VIDEO_PLAN.field("segments"), _without_frames(plans["segments"]))
        )
    plans = folder.plan_log.each_once(pa.concat_tables(parts))
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
    return list_array(lengths, structs, VIDEO_PLAN.field("segments").type)


def _runs_of_log(folder: OutputFolder) -> pa.Table:
    """Return where the committed segments of a folder of faces are, each once."""
    log = folder.segment_log
    columns = pa.schema([SEGMENT_PICTURES.field(name).with_nullable(True) for name in _OF_SEGMENT])
    schema = pa.schema([*columns, ("table", pa.string()), ("first_row", pa.int64())])
    parts = [schema.empty_table()]
    for path in log.data_files():
        rows = ds.dataset([path], schema=columns, filesystem=log.data.fs, format="parquet").to_table()
        table = absolute(join_uri(log.data.uri, path.rpartition("/")[2]))
        rows = rows.append_column("table", pa.array([table] * rows.num_rows))
        rows = rows.append_column("first_row", pa.array(np.arange(rows.num_rows)))
        parts.append(rows.cast(schema))
    rows = log.each_once(pa.concat_tables(parts))
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
