"""Rules that choose a threshold on labelled scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from dfd_core.errors import RequestError
from dfd_core.evaluation.scored import Floats, Scored


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """How a threshold is found: a fixed number, or from labelled scores.

    - `eer`: where the shares of reals called fake and of fakes called real are nearest to each other; of equally near
      ones that with the smaller sum of the two, then the highest.
    - `youden`: where TPR - FPR is largest (Youden, Cancer 3, 1950); of equally good ones the highest.
    - `fpr`: where most fakes are found while at most `value` of the reals are called fake; of equally good ones the
      highest.

    Attributes:
        kind: Which of them.
        value: The threshold itself in [0, 1] for `fixed`, the false positive rate in [0, 1) for `fpr`, otherwise 0.
    """

    kind: Literal["fixed", "eer", "youden", "fpr"]
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rule that `text` names: a number, `eer`, `youden` or `fpr:X`.

        >>> ThresholdRule.parse("fpr:0.01")
        ThresholdRule(kind='fpr', value=0.01)

        Raises:
            RequestError: It names none.
        """
        if text in ("eer", "youden"):
            return cls(text)  # type: ignore[arg-type]
        is_fpr = text.startswith("fpr:")
        try:
            value = float(text.removeprefix("fpr:"))
        except ValueError:
            value = float("nan")
        if is_fpr and 0 <= value < 1:
            return cls("fpr", value)
        if not is_fpr and 0 <= value <= 1:
            return cls("fixed", value)
        raise RequestError(
            f"Expected a threshold from 0 to 1, eer, youden or fpr:X with 0 <= X < 1. Received: {text!r}"
        )

    def __str__(self) -> str:
        return {"fixed": f"{self.value:g}", "fpr": f"fpr:{self.value:g}"}.get(self.kind, self.kind)


def choose_threshold(is_fake: npt.ArrayLike, p_fake: npt.ArrayLike, rule: ThresholdRule) -> float:
    """Return the threshold that `rule` gives for labelled scores; one that float32 can hold.

    It lies halfway between the lowest score called fake and the highest called real, so that it is not tied to one
    item. `fpr` may give a threshold above every score, where even the highest is a real's.

    Args:
        is_fake: (items,) bool.
        p_fake: (items,) in [0, 1], taken as float32.
        rule: `fixed` looks at no item.

    Raises:
        RequestError: The rule needs both classes and two different scores, or no threshold up to 1 keeps to its rate.

    >>> choose_threshold([False, False, True, True], [0.125, 0.25, 0.75, 1.0], ThresholdRule("youden"))
    0.5
    """
    if rule.kind == "fixed":
        return float(np.float32(rule.value))
    scored = Scored.of(is_fake, p_fake)
    real, fake = scored.num_real, scored.num_fake
    scores = np.unique(scored.p_fake)[::-1].astype(np.float64)
    if not real or not fake or len(scores) < 2:
        raise RequestError(
            f"Expected real and fake items and at least two different scores to choose a threshold by {rule}. "
            f"Received: {real} real, {fake} fake, {len(scores)} different scores"
        )
    # Cut k calls the k highest scores fake. Counts are whole numbers, so that equally good cuts are equal.
    cut_of = len(scores) - np.searchsorted(scores[::-1], scored.p_fake)
    hits = np.cumsum(np.bincount(cut_of, scored.is_fake, len(scores) + 1)).astype(np.int64)
    alarms = np.cumsum(np.bincount(cut_of, ~scored.is_fake, len(scores) + 1)).astype(np.int64)
    cuts = np.arange(1, len(scores))
    if rule.kind == "fpr":
        cuts = np.arange(0 if scores[0] < 1 else 1, len(scores))
        cuts = cuts[alarms[cuts] / real <= rule.value]
        keys = [-hits[cuts]]
    elif rule.kind == "youden":
        keys = [alarms[cuts] * fake - hits[cuts] * real]
    else:
        false_alarms, misses = alarms[cuts] * fake, (fake - hits[cuts]) * real
        keys = [false_alarms + misses, np.abs(false_alarms - misses)]
    if not len(cuts):
        top = int(np.count_nonzero(~scored.is_fake & (scored.p_fake == 1)))
        raise RequestError(f"No threshold keeps to {rule}: {top} of {real} reals have the score 1")
    return _between(scores, int(cuts[np.lexsort([cuts, *keys])[0]]))


def verdict_thresholds(is_fake: npt.ArrayLike, p_fake: npt.ArrayLike, rate: float) -> tuple[float, float]:
    """Return a low and a high threshold: between them nothing is called real or fake.

    From the high one on at most `rate` of the reals are called fake, and below the low one at most `rate` of the fakes real.
    Both are as near to the other class as that allows. If the classes lie so far apart that the two would cross, both are the
    middle, and nothing is uncertain.

    Args:
        is_fake: (items,) bool.
        p_fake: (items,) in [0, 1], taken as float32.
        rate: In [0, 1).

    Raises:
        RequestError: A class is missing, every score is the same, or the extreme scores are of the wrong class.

    >>> verdict_thresholds([False, False, True, True], [0.125, 0.75, 0.5, 1.0], 0.0)
    (0.3125, 0.875)
    """
    labels, scores = np.asarray(is_fake, np.bool_), np.asarray(p_fake, np.float32).astype(np.float64)
    rule = ThresholdRule("fpr", rate)
    high = choose_threshold(labels, scores, rule)
    low = float(np.float32(1 - choose_threshold(~labels, 1 - scores, rule)))
    if low > high:
        low = high = float(np.float32((low + high) / 2))
    return low, high


def _between(scores: Floats, cut: int) -> float:
    """Return a float32 above `scores[cut]` and at most `scores[cut - 1]`, halfway if there is one; scores fall."""
    low, high = scores[cut], scores[cut - 1] if cut else 1.0
    middle = float(np.float32((low + high) / 2))
    return middle if low < middle <= high else float(high)
