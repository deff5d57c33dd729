"""How the distribution of a number differs between two runs, without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import ks_2samp

from dfd_core.evaluation.intervals import MIN_GROUPS, Bootstrap, Estimate, draws, with_interval
from dfd_core.evaluation.scored import Scored

Floats = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Side:
    """One run's distribution over the videos that have the number.

    Attributes:
        num_videos: These.
        mean: Their mean.
        quantiles: At `QUANTILES`.
    """

    num_videos: int
    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """A number of the videos in both runs.

    Attributes:
        name: Its column.
        a: In the first run.
        b: In the second.
        distance: The largest distance of the two cumulative distributions, 0 to 1 (Kolmogorov and Smirnov).
        num_paired: Videos that have it in both runs.
        paired: The mean of `b - a` over these, with its bootstrap interval.
    """

    name: str
    a: Side
    b: Side
    distance: float
    num_paired: int
    paired: Estimate


def shift_of(name: str, a: pd.DataFrame, b: pd.DataFrame, *, bootstrap: Bootstrap) -> Shift | None:
    """Return how column `name` shifted; None if a run has no number in it.

    Args:
        name: A numeric column of both.
        a: `video_id group` and the column, of the first run; a group is a number.
        b: Of the second.
        bootstrap: How the interval is made.
    """
    sides = [frame[["video_id", "group", name]].dropna(subset=[name]) for frame in (a, b)]
    if any(side.empty for side in sides):
        return None
    before, after = (side[name].to_numpy(np.float64) for side in sides)
    both = sides[0].merge(sides[1], on="video_id", suffixes=("_a", "_b"))
    differences = (both[f"{name}_b"] - both[f"{name}_a"]).to_numpy(np.float64)
    return Shift(
        name,
        _side(before),
        _side(after),
        float(ks_2samp(before, after).statistic),
        len(both),
        _paired(differences, both["group_a"].to_numpy(), bootstrap),
    )


def _side(values: Floats) -> Side:
    quantiles = np.quantile(values, QUANTILES)
    return Side(len(values), float(values.mean()), tuple(float(value) for value in quantiles))


def _paired(differences: Floats, group: npt.NDArray[np.int64], bootstrap: Bootstrap) -> Estimate:
    if not len(differences):
        return Estimate(None)
    items = Scored.of(np.zeros(len(group), np.bool_), np.zeros(len(group), np.float32), group)
    sums = np.bincount(items.group, differences, items.num_groups)
    counts = np.bincount(items.group, minlength=items.num_groups)
    drawn = None
    if items.num_groups >= MIN_GROUPS:
        drawn = np.concatenate([(weights @ sums) / (weights @ counts) for weights in draws(items, bootstrap)])
    return with_interval(float(differences.mean()), drawn, items.num_groups, bootstrap.confidence)
