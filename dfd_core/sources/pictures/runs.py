"""Videos whose faces were cut out before, and where their pictures are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.config import ExtractConfig
from dfd_core.errors import RequestError
from dfd_core.schemas import FACE_RUN, SEGMENT
from dfd_core.sources.source import Wanted
from dfd_core.storage.uri import is_remote, local_path, local_uri

RUNS = pa.schema(
    [
        pa.field("plan_key", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        *(field for field in FACE_RUN if field.name not in SEGMENT.names),
        pa.field("group_rows", pa.int64(), nullable=False),
    ]
)
"""Where the pictures of a segment are. `position` is that of the segment in its video, `group_rows` the number of rows in the
largest row group of its file."""


@dataclass(frozen=True, slots=True)
class PictureSource:
    """A list of videos whose faces were cut out before.

    Attributes:
        kind: `faces` for a folder of `dfd faces`, `face_table` for tables made elsewhere.
        table: MANIFEST, then the user's own columns.
        plans: VIDEO_PLAN of each video, with what the source knows of it.
        runs: RUNS, one row per segment.
        made_with: The settings that the pictures were made with; empty for tables made elsewhere.
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

    @property
    def content(self) -> str:
        """What the source holds, for the log."""
        return f"Pictures of the faces of {self.table.num_rows:,} videos"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the source."""
        unknown = "How widely the faces are cut out is not known: it should be the margin in the model's card"
        return () if self.made_with else (unknown,)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Nothing: every picture of the source is used."""
        return ()

    def extraction(self, config: ExtractConfig) -> dict[str, Any]:
        """Return what decides which crops the source gives."""
        return {"crop_px": config.crop_px, "margin": config.margin, **self.made_with}

    def refuse_other(self, wanted: Wanted) -> None:
        """Raise RequestError if the faces were made otherwise; of a table made elsewhere nothing is known."""
        if not self.made_with:
            return
        margin, sampling = self.made_with["margin"], self.made_with["sampling"]
        if margin != wanted.margin:
            raise RequestError(
                f"The faces were cut out with a margin of {margin:g}, the model expects {wanted.margin:g}: "
                "dfd faces --margin makes others"
            )
        if wanted.sampling is not None and str(wanted.sampling) != sampling:
            raise RequestError(
                f"The faces were sampled by {sampling}; --sampling cannot be {wanted.sampling}"
            )
        side_px, wanted_px = self.made_with["detect_max_side_px"], wanted.detect_max_side_px
        if wanted_px is not None and wanted_px != side_px:
            found = "in frames as they are" if side_px is None else f"with --detect-max-side {side_px}"
            raise RequestError(f"The faces were detected {found}; --detect-max-side cannot be {wanted_px}")
        detector = self.made_with["detector"]
        if wanted.detector is not None and wanted.detector != detector:
            raise RequestError(
                f"The faces were detected by {detector}; --detector cannot be {wanted.detector}"
            )


def list_array(lengths: npt.NDArray[np.int64], values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return `values` cut into lists of these lengths, as an array of the type `kind`."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def absolute(address: str) -> str:
    """Return the address for workers, which run in other folders."""
    return address if is_remote(address) else local_uri(local_path(address))
