"""What a run reads: videos, or pictures of faces that were cut out of videos before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.config import ExtractConfig, Sampling
from dfd_core.run.output_folder import OutputFolder


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the faces of a run are to be made.

    Attributes:
        margin: Of the model: fraction of a box's sides that is added on each side.
        sampling: Which frames are looked at; None for whatever the source has.
        detect_max_side_px: Longer side of the frame that the detector sees, pixels; None for whatever the source has.
        detector: The face detector; None for whatever the source has.
    """

    margin: float
    sampling: Sampling | None = None
    detect_max_side_px: int | None = None
    detector: str | None = None


class Source(Protocol):
    """A list of videos, and where their faces come from."""

    @property
    def kind(self) -> str:
        """What `run.json` calls the kind of source."""

    @property
    def table(self) -> pa.Table:
        """MANIFEST, then the user's own columns unchanged."""

    @property
    def plans(self) -> pa.Table:
        """VIDEO_PLAN of the videos that need not be opened."""

    @property
    def runs(self) -> pa.Table | None:
        """Where the pictures of the segments are (RUNS); None if segments are cut out of videos."""

    @property
    def content(self) -> str:
        """What the source holds, for the log."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the source."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """What a user may miss in the source, one reason each."""

    def renamed(self, plan_keys: pa.ChunkedArray) -> Self:
        """Return the source with other plan keys, in the order of the rows of its table."""

    def extraction(self, config: ExtractConfig) -> dict[str, Any]:
        """Return what decides which crops the source gives: part of a run's configuration."""

    def refuse_other(self, wanted: Wanted) -> None:
        """Raise RequestError if the faces of the source are made otherwise."""


def commit_plans(out: OutputFolder, plans: pa.Table) -> None:
    """Add those of `plans` (VIDEO_PLAN) that `out` does not have yet to its log.

    Raises:
        OutputError: They cannot be written.
    """
    if plans.num_rows:
        planned = out.plan_log.committed()
        new = plans.filter(pc.invert(pc.is_in(plans.column("plan_key"), value_set=planned)))
        if new.num_rows:
            out.plan_log.append(new)
