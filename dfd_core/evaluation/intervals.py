"""Figures with their bootstrap intervals, or with the reason why there is none.

A figure that the items do not define is None with a note that says why; it is never 0.5 or 0.

An interval needs every figure a thousand times over reweighted items. `weighted_figures` computes them for many
weightings at once from one sorting; the tests hold it to scikit-learn's `sample_weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfd_core.errors import RequestError
from dfd_core.evaluation.metrics import (
    CLIP,
    DEFINITIONS,
    FPR_TARGETS,
    NUM_CALIBRATION_BINS,
    Bools,
    Confusion,
    Floats,
    Scored,
    calibration_bins,
    called_fake,
    confusion,
    figures,
)

Ints = npt.NDArray[np.int64]

MIN_ITEMS = 4
"""Fewer items have no figures: two of each class are the least that can be compared."""
MIN_GROUPS = 5
"""Fewer groups have no intervals: of four there are only 35 different resamples."""
MAX_UNDEFINED_SHARE = 0.05
"""Of the resamples that lack a class; with more of them there is no interval."""

_WEIGHTS_AT_ONCE = 300_000


@dataclass(frozen=True, slots=True)
class Note:
    """Why a figure or its interval is missing, or what to keep in mind with it.

    Attributes:
        kind: `too_few_items`, `one_class`, `equal_scores` (no value); `too_few_groups`, `unstable` (no interval);
            `not_resolvable`, `zero_width` (read with care).
        text: The same in a sentence.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: The figure over all items; None where they do not define it.
        low: Lower end of the bootstrap interval; None where there is none.
        high: Upper end.
        notes: Why something is None, and cautions.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: percentiles of the figures over resamples of whole groups, drawn with replacement.

    The cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8; Field and
    Welsh, J. R. Stat. Soc. B 69 (2007). Percentile intervals: Efron, Ann. Stat. 7 (1979).

    Attributes:
        resamples: How many.
        seed: The same seed and items give the same intervals.
        confidence: Of the intervals, in (0, 1).
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.seed < 0 or not 0 < self.confidence < 1:
            raise RequestError(
                f"Expected resamples >= 1, seed >= 0 and 0 < confidence < 1. Received: {self.resamples}, "
                f"{self.seed}, {self.confidence}"
            )


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything measured over one set of items.

    Attributes:
        num_real: Items labelled real.
        num_fake: Items labelled fake.
        num_groups: Groups that they fall into.
        confusion: At the threshold.
        figures: An estimate for each name in `DEFINITIONS`, in that order.
    """

    num_real: int
    num_fake: int
    num_groups: int
    confusion: Confusion
    figures: dict[str, Estimate]


def measure(scored: Scored, *, threshold: float, bootstrap: Bootstrap) -> Measured:
    """Return every figure of `scored` with its interval, the threshold being given, not chosen again in resamples."""
    missing = {name: _why_undefined(scored, name) for name in DEFINITIONS}
    values = figures(scored, threshold)
    drawn = (
        _resampled(scored, threshold, bootstrap)
        if not all(missing.values()) and scored.num_groups >= MIN_GROUPS
        else {}
    )
    estimates = {}
    for name, why in missing.items():
        if why:
            estimates[name] = Estimate(None, notes=(why,))
        else:
            estimates[name] = _with_interval(
                values[name], drawn.get(name), scored.num_groups, bootstrap.confidence
            )
            estimates[name] = _with_caution(estimates[name], name, scored.num_real)
    return Measured(
        scored.num_real, scored.num_fake, scored.num_groups, confusion(scored, threshold), estimates
    )


def weighted_figures(scored: Scored, threshold: float, weights: Floats) -> dict[str, Floats]:
    """Return every figure under each weighting of the groups.

    Args:
        scored: The items.
        threshold: As in `figures`.
        weights: (weightings, groups), whole numbers from 0; some item has weight in every weighting.

    Returns:
        Each name in `DEFINITIONS` → (weightings,); nan where a weighting leaves one class, or one score to rank.
    """
    return _Weighable(scored, threshold).figures(weights)


class _Weighable:
    """What needs to be done only once for all weightings: the items sorted, the averages summed by group."""

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
        """Return what `weighted_figures` does."""
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


def _resampled(scored: Scored, threshold: float, bootstrap: Bootstrap) -> dict[str, Floats]:
    """Return every figure of every resample: name → (resamples,)."""
    weighable = _Weighable(scored, threshold)
    parts = [weighable.figures(weights) for weights in _draws(scored, bootstrap)]
    return {name: np.concatenate([part[name] for part in parts]) for name in DEFINITIONS}


def _draws(scored: Scored, bootstrap: Bootstrap) -> Iterator[Floats]:
    """Yield how often each group is in each resample, (some resamples, groups), as many as fit in memory at a time."""
    rng = np.random.default_rng(bootstrap.seed)
    groups = scored.num_groups
    at_once = max(1, _WEIGHTS_AT_ONCE // scored.num_items)
    for start in range(0, bootstrap.resamples, at_once):
        rows = min(at_once, bootstrap.resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def _why_undefined(scored: Scored, name: str) -> Note | None:
    definition = DEFINITIONS[name]
    if scored.num_items < MIN_ITEMS:
        return Note("too_few_items", f"{scored.num_items} items; at least {MIN_ITEMS} are needed")
    if definition.compares_classes and 0 in (scored.num_real, scored.num_fake):
        absent = "real" if scored.num_real == 0 else "fake"
        return Note("one_class", f"no {absent} items to compare with")
    if definition.ranks and scored.p_fake.min() == scored.p_fake.max():
        return Note("equal_scores", "every item has the same score, so there is no order to judge")
    return None


def _with_interval(value: float, drawn: Floats | None, num_groups: int, confidence: float) -> Estimate:
    if drawn is None:
        groups = "group" if num_groups == 1 else "groups"
        note = Note("too_few_groups", f"no interval: {num_groups} {groups}; at least {MIN_GROUPS} are needed")
        return Estimate(value, notes=(note,))
    defined = drawn[~np.isnan(drawn)]
    undefined_share = 1 - len(defined) / len(drawn)
    if undefined_share > MAX_UNDEFINED_SHARE:
        text = f"no interval: {undefined_share:.0%} of the resamples lack a class or have one score"
        return Estimate(value, notes=(Note("unstable", text),))
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(defined, [tail, 1 - tail]))
    if low < high:
        return Estimate(value, low, high)
    text = f"every resample gives this same value; {num_groups} groups cannot show how much it would vary"
    return Estimate(value, low, high, (Note("zero_width", text),))


def _with_caution(estimate: Estimate, name: str, num_real: int) -> Estimate:
    target = FPR_TARGETS.get(name)
    if target is None or num_real >= round(1 / target):
        return estimate
    text = (
        f"not resolvable: {num_real:,} real items, and {100 * target:g} % needs {round(1 / target):,}; "
        "this is the share found without a single false alarm"
    )
    return Estimate(
        estimate.value, estimate.low, estimate.high, (*estimate.notes, Note("not_resolvable", text))
    )
