"""How many labelled videos have a score, and why the others have none."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dfd_core.answers.aggregate import STATUSES
from dfd_core.sources.manifest import LABELS


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many labelled videos have a score.

    Attributes:
        decided: Videos with a `p_fake`, by label.
        undecided: Videos without, by status and label.
    """

    decided: dict[str, int]
    undecided: dict[str, dict[str, int]]

    @property
    def num_decided(self) -> int:
        """Videos with a `p_fake`."""
        return sum(self.decided.values())

    @property
    def num_undecided(self) -> int:
        """Videos without one."""
        return sum(sum(by_label.values()) for by_label in self.undecided.values())

    @property
    def share(self) -> float | None:
        """The share of labelled videos that have a `p_fake`; None without videos."""
        total = self.num_decided + self.num_undecided
        return self.num_decided / total if total else None


def coverage_of(videos: pd.DataFrame) -> Coverage:
    """Return the coverage of `label status p_fake`, one row a video."""

    def by_label(rows: pd.DataFrame) -> dict[str, int]:
        return {label: int((rows["label"] == label).sum()) for label in LABELS}

    decided = videos["p_fake"].notna()
    undecided = videos[~decided]
    statuses = list(
        dict.fromkeys(["no_face", "failed", *(s for s in STATUSES if (undecided["status"] == s).any())])
    )
    return Coverage(
        by_label(videos[decided]),
        {status: by_label(undecided[undecided["status"] == status]) for status in statuses},
    )
