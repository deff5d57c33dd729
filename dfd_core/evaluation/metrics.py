"""How well `p_fake` tells fake from real: figures, and the choice of a threshold.

Positive means fake. An item is called fake where `p_fake >= threshold`, both as float32, as the verdict in `videos/` is
made. The figures come from scikit-learn where it has them; `dfd_core.evaluation.intervals` adds how sure they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from dfd_core.errors import RequestError

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NUM_CALIBRATION_BINS = 15
FPR_TARGETS = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.001": 0.001}
CLIP = float(np.finfo(np.float32).eps)
"""Log loss takes no probability nearer to 0 or 1 than float32 can tell from 1: a wrong 1.0 costs 15.9, not infinity."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure is, for people.

    Attributes:
        title: Its name.
        text: What it means and how it is computed.
        best: The value of a perfect detector.
        compares_classes: Whether it needs both real and fake items.
        ranks: Whether it is about the order of the scores, so that equal scores leave it undefined.
    """

    title: str
    text: str
    best: float
    compares_classes: bool = True
    ranks: bool = True


DEFINITIONS = {
    "roc_auc": Definition(
        "ROC AUC",
        "Probability that a random fake scores higher than a random real, ties counting half. Chance is 0.5.",
        best=1.0,
    ),
    "average_precision": Definition(
        "Average precision",
        "Precision averaged over the recall it is reached at, in steps, not interpolated. "
        "Chance is the share of fakes.",
        best=1.0,
    ),
    "eer": Definition(
        "Equal error rate",
        "The error rate at which as large a share of reals is called fake as of fakes is called real, "
        "read where the ROC's straight segments cross TPR = 1 − FPR. Chance is 0.5.",
        best=0.0,
    ),
    "tpr_at_fpr_0.01": Definition(
        "TPR at 1 % FPR",
        "Largest share of fakes that a threshold finds while it calls at most 1 % of the reals fake; "
        "not interpolated.",
        best=1.0,
    ),
    "tpr_at_fpr_0.001": Definition(
        "TPR at 0.1 % FPR",
        "The same at no more than 0.1 % of the reals.",
        best=1.0,
    ),
    "balanced_accuracy": Definition(
        "Balanced accuracy",
        "Mean of the share of fakes called fake and the share of reals called real, at the threshold. "
        "Chance is 0.5 whatever the mix.",
        best=1.0,
        ranks=False,
    ),
    "accuracy": Definition(
        "Accuracy",
        "Share of items whose verdict at the threshold is right. It follows the mix of real and fake.",
        best=1.0,
        compares_classes=False,
        ranks=False,
    ),
    "log_loss": Definition(
        "Log loss",
        "Mean of −ln of the probability given to the truth, probabilities kept 2⁻²³ away from 0 and 1. "
        "Always answering 0.5 gives 0.693.",
        best=0.0,
        compares_classes=False,
        ranks=False,
    ),
    "brier": Definition(
        "Brier score",
        "Mean squared distance of p_fake from the truth (0 or 1). Always answering 0.5 gives 0.25.",
        best=0.0,
        compares_classes=False,
        ranks=False,
    ),
    "ece": Definition(
        "Calibration error (ECE)",
        "p_fake is cut into 15 bins of equal width, [0, 1/15) to [14/15, 1]; the error is the distance between a "
        "bin's mean p_fake and its share of fakes, averaged over the items. With few items it is above zero even for "
        "a perfectly calibrated model.",
        best=0.0,
        compares_classes=False,
        ranks=False,
    ),
}
"""Every figure, in the order in which it is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Labelled items that have a score.

    Attributes:
        is_fake: (items,) bool.
        p_fake: (items,) float32 in [0, 1].
        group: (items,) int64, every number from 0 to `num_groups - 1`; items of one number are resampled together.
    """

    is_fake: Bools
    p_fake: npt.NDArray[np.float32]
    group: npt.NDArray[np.int64]

    @classmethod
    def of(cls, is_fake: npt.ArrayLike, p_fake: npt.ArrayLike, group: npt.ArrayLike | None = None) -> Self:
        """Return the items, their groups numbered; without groups, every item is its own.

        Raises:
            ValueError: The lengths differ, or a `p_fake` is not in [0, 1].
        """
        labels, scores = np.asarray(is_fake, np.bool_), np.asarray(p_fake, np.float32)
        keys = np.arange(len(labels)) if group is None else np.asarray(group)
        if not labels.shape == scores.shape == keys.shape or labels.ndim != 1:
            raise ValueError(
                f"Expected three (items,) arrays. Received: {labels.shape} {scores.shape} {keys.shape}"
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("Expected every p_fake in [0, 1]")
        return cls(labels, scores, np.unique(keys, return_inverse=True)[1].astype(np.int64))

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.is_fake)

    @property
    def num_fake(self) -> int:
        """The number of items labelled fake."""
        return int(self.is_fake.sum())

    @property
    def num_real(self) -> int:
        """The number of items labelled real."""
        return self.num_items - self.num_fake

    @property
    def num_groups(self) -> int:
        """The number of groups."""
        return int(self.group.max()) + 1 if self.num_items else 0


@dataclass(frozen=True, slots=True)
class Confusion:
    """Items by label and verdict."""

    real_called_real: int
    real_called_fake: int
    fake_called_real: int
    fake_called_fake: int


def called_fake(p_fake: npt.NDArray[np.float32], threshold: float) -> Bools:
    """Return the verdicts: `p_fake >= threshold`, both as float32."""
    return p_fake >= np.float32(threshold)


def confusion(scored: Scored, threshold: float) -> Confusion:
    """Return the items by label and verdict."""
    verdicts = called_fake(scored.p_fake, threshold)
    if not scored.num_items:
        return Confusion(0, 0, 0, 0)
    cells = sk.confusion_matrix(scored.is_fake, verdicts, labels=[False, True])
    return Confusion(*(int(cell) for cell in cells.ravel()))


def figures(scored: Scored, threshold: float) -> dict[str, float]:
    """Return the figures that `scored` defines mathematically; without items none, of one class four."""
    if not scored.num_items:
        return {}
    labels, scores = scored.is_fake, scored.p_fake.astype(np.float64)
    verdicts = called_fake(scored.p_fake, threshold)
    both = [False, True]
    found = {
        "accuracy": sk.accuracy_score(labels, verdicts),
        "log_loss": sk.log_loss(labels, np.clip(scores, CLIP, 1 - CLIP), labels=both),
        "brier": sk.brier_score_loss(labels, scores, labels=both, pos_label=True),
        "ece": calibration_error(labels, scores),
    }
    if 0 < scored.num_fake < scored.num_items:
        fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
        found |= {
            "balanced_accuracy": sk.balanced_accuracy_score(labels, verdicts),
            "roc_auc": sk.roc_auc_score(labels, scores),
            "average_precision": sk.average_precision_score(labels, scores),
            "eer": equal_error_rate(fpr, tpr),
        }
        found |= {name: tpr_at(fpr, tpr, target) for name, target in FPR_TARGETS.items()}
    return {name: float(value) for name, value in found.items()}


def calibration_bins(p_fake: Floats) -> npt.NDArray[np.int64]:
    """Return the bin, 0 to 14, that each `p_fake` falls into.

    >>> calibration_bins(np.array([0.0, 0.07, 0.5, 1.0])).tolist()
    [0, 1, 7, 14]
    """
    return np.minimum((p_fake * NUM_CALIBRATION_BINS).astype(np.int64), NUM_CALIBRATION_BINS - 1)


def calibration_error(is_fake: Bools, p_fake: Floats) -> float:
    """Return the expected calibration error of the probability of being fake, in [0, 1].

    The mean, over the items, of |share of fakes - mean p_fake| of the item's bin. Naeini, Cooper and Hauskrecht, AAAI
    2015, for binary probabilities; not the multi-class one, which looks at the probability of the winning class.

    >>> round(calibration_error(np.array([True, False]), np.array([0.9, 0.9])), 9)  # half of them are fake, 0.9 were said
    0.4
    """
    gaps = np.bincount(calibration_bins(p_fake), weights=is_fake - p_fake)
    return float(np.abs(gaps).sum() / len(p_fake))


def equal_error_rate(fpr: Floats, tpr: Floats) -> float:
    """Return the equal error rate of a ROC curve, in [0, 1]: where its straight segments cross TPR = 1 - FPR.

    Args:
        fpr: (points,), rising from 0 to 1.
        tpr: (points,), rising from 0 to 1.

    >>> round(equal_error_rate(np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.5, 1.0])), 3)
    0.333
    """
    rise = fpr + tpr  # 0 at the first point, 2 at the last; 1 where FPR = FNR
    after = int(np.argmax(rise >= 1))
    part = (1 - rise[after - 1]) / (rise[after] - rise[after - 1])
    return float(fpr[after - 1] + part * (fpr[after] - fpr[after - 1]))


def tpr_at(fpr: Floats, tpr: Floats, target: float) -> float:
    """Return the largest true positive rate of the curve's points whose `fpr` is at most `target`."""
    return float(tpr[fpr <= target].max())


# --- thresholds ---------------------------------------------------------------------------------------------------


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


def _between(scores: Floats, cut: int) -> float:
    """Return a float32 above `scores[cut]` and at most `scores[cut - 1]`, halfway if there is one; scores fall."""
    low, high = scores[cut], scores[cut - 1] if cut else 1.0
    middle = float(np.float32((low + high) / 2))
    return middle if low < middle <= high else float(high)
