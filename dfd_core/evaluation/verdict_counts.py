"""The verdicts that a run gave, counted by label, and what accepting fewer of them would buy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dfd_core.answers.verdicts import REASONS
from dfd_core.evaluation.populations import populations
from dfd_core.evaluation.scored import Floats, Scored, called_fake
from dfd_core.sources.manifest import LABELS

VERDICTS = ("real", "uncertain", "fake")
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the videos at which the risk is told."""


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """The verdicts in `videos/` of a part of the labelled videos.

    Attributes:
        by: The column whose value makes the part; None for all videos.
        value: That value.
        counts: Label → verdict → videos. A video without a score has no verdict and is not counted.
        reasons: `uncertain_reason` → videos, those that occur.
    """

    by: str | None
    value: str | None
    counts: dict[str, dict[str, int]]
    reasons: dict[str, int]

    def share(self, label: str, verdict: str) -> float | None:
        """Return the share of a label's verdicts; None without any."""
        total = sum(self.counts[label].values())
        return self.counts[label][verdict] / total if total else None


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The share of wrong verdicts among the surest videos, against how many of the videos these are.

    A video is the surer the farther its score lies from the threshold, as a share of the way to 0 or to 1. Videos that are equally sure
    are taken together.

    Attributes:
        coverage: (points,) ascending, in (0, 1].
        risk: (points,) in [0, 1].
    """

    coverage: Floats
    risk: Floats

    def risk_at(self, coverage: float) -> float | None:
        """Return the risk of the smallest share that is at least `coverage`; None without videos."""
        if not len(self.coverage):
            return None
        position = min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.risk) - 1)
        return float(self.risk[position])


def verdict_counts(videos: pd.DataFrame) -> tuple[VerdictCounts, ...]:
    """Return the verdicts of all videos and of each part; nothing where the run gave none.

    Args:
        videos: `truth.Truth.videos`.
    """
    if "verdict" not in videos or not videos["verdict"].notna().any():
        return ()
    return tuple(
        VerdictCounts(by, value, _counts(videos[members]), _reasons(videos[members]))
        for by, value, _, members in populations(videos)
    )


def _counts(videos: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        label: {
            verdict: int(((videos["label"] == label) & (videos["verdict"] == verdict)).sum())
            for verdict in VERDICTS
        }
        for label in LABELS
    }


def _reasons(videos: pd.DataFrame) -> dict[str, int]:
    if "uncertain_reason" not in videos:
        return {}
    found = videos["uncertain_reason"].value_counts()
    return {reason: int(found[reason]) for reason in REASONS if reason in found}


def risk_coverage(scored: Scored, threshold: float) -> RiskCoverage:
    """Return the risk–coverage curve of verdicts at one threshold (El-Yaniv and Wiener, JMLR 2010).

    >>> scored = Scored.of(np.array([True, False, True]), np.float32([0.9, 0.2, 0.4]), np.arange(3))
    >>> risk_coverage(scored, 0.5).risk.round(2).tolist()
    [0.0, 0.0, 0.33]
    """
    p_fake, threshold = scored.p_fake.astype(np.float64), float(np.float32(threshold))  # as verdicts compare
    above, below = max(1 - threshold, 1e-9), max(threshold, 1e-9)
    sureness = np.where(p_fake >= threshold, (p_fake - threshold) / above, (threshold - p_fake) / below)
    wrong = called_fake(scored.p_fake, threshold) != scored.is_fake
    order = np.argsort(-sureness, kind="stable")
    taken = np.arange(1, len(order) + 1)
    ends = np.append(np.diff(sureness[order]) != 0, True) if len(order) else np.zeros(0, np.bool_)
    risk = np.cumsum(wrong[order]) / np.maximum(taken, 1)
    return RiskCoverage(taken[ends] / max(len(order), 1), risk[ends])
