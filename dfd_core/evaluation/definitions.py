"""What each figure means, in words for people, and which items it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """The description of a figure.

    Attributes:
        title: Its name.
        text: What it means and how it is computed.
        best: Its value for a perfect detector.
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
