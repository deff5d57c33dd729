"""Figures with their bootstrap intervals, or with the reason why there is none.

A figure that the items do not define is None with a note that says why; it is never 0.5 or 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dfd_core.errors import RequestError
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.metrics import FPR_TARGETS, figures
from dfd_core.evaluation.scored import Confusion, Floats, Scored, confusion
from dfd_core.evaluation.weighted import Weighable

MIN_ITEMS = 4
"""Fewer items have no figures: two of each class are the least that can be compared."""
MIN_GROUPS = 5
"""Fewer groups have no intervals: of four there are only 35 different resamples."""
MAX_UNDEFINED_SHARE = 0.05
"""Of the resamples; if more of them lack a class there is no interval."""

_WEIGHTS_AT_ONCE = 300_000


@dataclass(frozen=True, slots=True)
class Note:
    """Why a figure or its interval is missing, or a caution.

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
            estimates[name] = with_interval(
                values[name], drawn.get(name), scored.num_groups, bootstrap.confidence
            )
            estimates[name] = _with_caution(estimates[name], name, scored.num_real)
    return Measured(
        scored.num_real, scored.num_fake, scored.num_groups, confusion(scored, threshold), estimates
    )


def _resampled(scored: Scored, threshold: float, bootstrap: Bootstrap) -> dict[str, Floats]:
    """Return every figure of every resample: name → (resamples,)."""
    weighable = Weighable(scored, threshold)
    parts = [weighable.figures(weights) for weights in draws(scored, bootstrap)]
    return {name: np.concatenate([part[name] for part in parts]) for name in DEFINITIONS}


def draws(scored: Scored, bootstrap: Bootstrap) -> Iterator[Floats]:
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


def with_interval(value: float, drawn: Floats | None, num_groups: int, confidence: float) -> Estimate:
    """Return a figure with the percentile interval of its resamples, or with the reason why it has none.

    Args:
        value: The figure over all items.
        drawn: (resamples,) the figure in each, NaN where it is not defined; None if there are too few groups.
        num_groups: Groups that were resampled.
        confidence: Of the interval, in (0, 1).
    """
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
