"""Tables of face pictures, and their faces as the stages read them."""

import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.config import ExtractConfig, Limits
from dfd_core.run import worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import FACE_RUN, check, face_crops, to_table
from dfd_core.sources.source import commit_plans
from dfd_core.stages.pictures import crop_pictures, pictures_of

CONFIG = ExtractConfig(crop_px=16, limits=Limits(max_pixels=64 * 64))


def write(path, rows, *, row_group_size=None, schema=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=row_group_size)
    return str(path)


def list_runs(source, folder):
    """The runs as scoring lists them, and what the list says of the work."""
    out = OutputFolder.at(str(folder))
    worklist.write_manifest(out, source.table)
    commit_plans(out, source.plans)
    work = worklist.list_segments(out, num_cpus=2, runs=source.runs)
    return check(pq.read_table(out.segment_list.path), FACE_RUN).to_pylist(), work


def crops_of(source, folder):
    """`segment_id` → its row of face crops."""
    runs, _ = list_runs(source, folder)
    rows = [crop_pictures(run, pictures, CONFIG) for run, pictures in pictures_of(runs)]
    return {row["segment_id"]: row for row in to_table(rows, face_crops(16)).to_pylist()}


def faces_by_video(source, folder):
    names = dict(
        zip(*(source.table.column(name).to_pylist() for name in ("plan_key", "video_id")), strict=True)
    )
    found = {name: [] for name in names.values()}
    for row in crops_of(source, folder).values():
        found[names[row["plan_key"]]] += row["faces"]
    return found
