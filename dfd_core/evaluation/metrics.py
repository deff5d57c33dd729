"""Figures that tell how well `p_fake` separates fake from real.

They are scikit-learn's where it has them. `dfd_core.evaluation.intervals` adds their uncertainty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from dfd_core.evaluation.scored import Bools, Floats, Scored, called_fake

NUM_CALIBRATION_BINS = 15
FPR_TARGETS = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.001": 0.001}
CLIP = float(np.finfo(np.float32).eps)
"""Log loss keeps probabilities this far from 0 and 1, float32's resolution at 1: a wrong 1.0 costs 15.9, not infinity."""


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
