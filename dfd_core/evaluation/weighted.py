"""Every figure under many weightings of the groups at once, from one sorting.

An interval needs each figure a thousand times over reweighted items. The tests hold these figures to scikit-learn's
`sample_weight`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dfd_core.evaluation.metrics import CLIP, FPR_TARGETS, NUM_CALIBRATION_BINS, calibration_bins
from dfd_core.evaluation.scored import Bools, Floats, Scored, called_fake

Ints = npt.NDArray[np.int64]


def weighted_figures(scored: Scored, threshold: float, weights: Floats) -> dict[str, Floats]:
    """Return every figure under each weighting of the groups.

    Args:
        scored: The items.
        threshold: As in `figures`.
        weights: (weightings, groups), whole numbers from 0; some item has weight in every weighting.

    Returns:
        Each name in `DEFINITIONS` → (weightings,); nan where a weighting leaves one class, or one score to rank.
    """
    return Weighable(scored, threshold).figures(weights)


class Weighable:
    """The work that all weightings share: the items sorted, the averages summed by group."""

    def __init__(self, scored: Scored, threshold: float) -> None:
        falling = np.argsort(-scored.p_fake, kind="stable")
        self._group = scored.group[falling]
        self._fake = scored.is_fake[falling].astype(np.float64)
        scores = scored.p_fake[falling].astype(np.float64)
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
        self._last_of_score = last if len(last) < len(scores) else None
        right = (called_fake(scored.p_fake, threshold) == scored.is_fake)[falling]
        safe = np.clip(scores, CLIP, 1 - CLIP)
        terms = [
            np.ones(len(scores)),
            self._fake,
            right,
            right * self._fake,
            -np.log(np.where(self._fake == 1, safe, 1 - safe)),
            (scores - self._fake) ** 2,
        ]
        bins = calibration_bins(scores)
        terms += [(bins == number) * (self._fake - scores) for number in range(NUM_CALIBRATION_BINS)]
        self._group_sums = np.stack(
            [np.bincount(self._group, term, scored.num_groups) for term in terms], axis=1
        )

    def figures(self, weights: Floats) -> dict[str, Floats]:
        """Return the same as `weighted_figures`."""
        total, fake, right, right_fake, log_loss, square, *gaps = (weights @ self._group_sums).T
        real = total - fake
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "accuracy": right / total,
                "log_loss": log_loss / total,
                "brier": square / total,
                "ece": np.abs(gaps).sum(axis=0) / total,
                "balanced_accuracy": (right_fake / fake + (right - right_fake) / real) / 2,
            }
            ranks = self._ranks(np.take(weights, self._group, axis=1), real, fake)
        both = (fake > 0) & (real > 0)
        found["balanced_accuracy"] = np.where(both, found["balanced_accuracy"], np.nan)
        return found | {name: np.where(both, values, np.nan) for name, values in ranks.items()}

    def _ranks(self, weights: Floats, real: Floats, fake: Floats) -> dict[str, Floats]:
        """Return the figures that depend on the order, of (weightings, items) in the order of falling score."""
        above, hits = np.cumsum(weights, axis=1), np.cumsum(weights * self._fake, axis=1)
        if self._last_of_score is not None:
            above, hits = (np.take(counts, self._last_of_score, axis=1) for counts in (above, hits))
        alarms = above - hits
        precision = hits / np.maximum(
            above, np.finfo(np.float64).tiny
        )  # no hits, no items: 0, and no step there
        found = {
            "roc_auc": _area(alarms, hits) / (fake * real),
            "average_precision": _steps(hits, precision) / fake,
            "eer": _equal_errors(alarms, hits, real, fake),
        }
        for name, target in FPR_TARGETS.items():
            found[name] = _at(hits, _last_within(alarms, real, target)) / fake
        top = _at(above, _first(above, lambda cut: _at(above, cut) > 0))
        return {name: np.where(top == real + fake, np.nan, values) for name, values in found.items()}


# Counts are (weightings, scores): what has this score or a higher one. Before the first of them lies a point of zeros.


def _at(counts: Floats, scores: Ints) -> Floats:
    """Return each weighting's count at its own of `scores` (weightings,); 0 at -1."""
    found = np.take_along_axis(counts, np.clip(scores, 0, counts.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(scores < 0, 0.0, found)


def _first(counts: Floats, holds: Callable[[Ints], Bools]) -> Ints:
    """Return each weighting's first score at which `holds`, by bisection; the number of scores where it never does.

    `holds` takes a score for each weighting; it is false up to some score and true from there on.
    """
    low, high = np.zeros(len(counts), np.int64), np.full(len(counts), counts.shape[1])
    while (open_ := low < high).any():
        middle = (low + high) // 2
        true = holds(middle)
        low, high = np.where(open_ & ~true, middle + 1, low), np.where(open_ & true, middle, high)
    return low


def _last_within(alarms: Floats, real: Floats, target: float) -> Ints:
    """Return each weighting's last score down to which at most `target` of the reals are alarms; -1 for none."""
    return _first(alarms, lambda cut: _at(alarms, cut) / real > target) - 1


def _area(alarms: Floats, hits: Floats) -> Floats:
    """Return the area under the hits over the alarms, by trapezes."""
    first = alarms[:, 0] * hits[:, 0]
    rest: Floats = np.einsum("ws,ws->w", np.diff(alarms), hits[:, 1:] + hits[:, :-1])
    return (first + rest) / 2


def _steps(hits: Floats, precision: Floats) -> Floats:
    """Return the area of the steps that `precision` makes over the hits."""
    rest: Floats = np.einsum("ws,ws->w", np.diff(hits), precision[:, 1:])
    return hits[:, 0] * precision[:, 0] + rest


def _equal_errors(alarms: Floats, hits: Floats, real: Floats, fake: Floats) -> Floats:
    """Return `metrics.equal_error_rate` of each weighting."""

    def rise(cut: Ints) -> Floats:
        return _at(alarms, cut) / real + _at(hits, cut) / fake

    after = _first(hits, lambda cut: rise(cut) >= 1)
    before = after - 1
    part = (1 - rise(before)) / (rise(after) - rise(before))
    fpr_before = _at(alarms, before) / real
    return fpr_before + part * (_at(alarms, after) / real - fpr_before)
