"""A list of videos whose faces are there already, and where their pictures are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.run import commit_log
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import FACE_RUN, SEGMENT
from dfd_core.storage import address as storage

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


@dataclass(frozen=True, slots=True)
class PictureSource:
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

    def renamed(self, plan_keys: pa.ChunkedArray) -> PictureSource:
        """Return the source with other plan keys, in the order of its manifest's rows."""
        position = pa.array(np.arange(self.table.num_rows))
        own = self.table.column("plan_key").combine_chunks()

        def rename(table: pa.Table) -> pa.Table:
            rows = position.take(pc.index_in(table.column("plan_key"), value_set=own))
            where = table.schema.get_field_index("plan_key")
            return table.set_column(where, table.schema.field(where), plan_keys.take(rows))

        return replace(self, plans=rename(self.plans), runs=rename(self.runs))


def commit_plans(out: OutputFolder, source: PictureSource) -> None:
    """Add the plans of `source` that `out` does not have yet to its log.

    Raises:
        OutputError: They cannot be written.
    """
    planned = commit_log.committed(out.checkpoint("plan"), "plan_key")
    new = source.plans.filter(pc.invert(pc.is_in(source.plans.column("plan_key"), value_set=planned)))
    if new.num_rows:
        commit_log.append(out.checkpoint("plan"), out.plans, new)


def list_array(lengths: npt.NDArray[np.int64], values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return `values` cut into lists of these lengths, as an array of the type `kind`."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def absolute(address: str) -> str:
    """Return the address for workers, which run in other folders."""
    return address if storage.is_remote(address) else storage.local_uri(storage.local_path(address))
