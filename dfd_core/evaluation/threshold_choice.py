"""The threshold of an evaluation: the run's, a given one, or one chosen on the videos that are judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfd_core.evaluation.scored import Bools
from dfd_core.evaluation.thresholds import ThresholdRule, choose_threshold
from dfd_core.evaluation.truth import Scores


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of an evaluation.

    Attributes:
        value: `p_fake` from which an item is called fake.
        source: `run` (the run's own), `given`, or the rule that chose it.
        chosen_here: Whether it was chosen on the very videos that are judged with it.
    """

    value: float
    source: str
    chosen_here: bool


def threshold_of(
    scores: Scores, rule: ThresholdRule | None, is_fake: Bools, p_fake: npt.NDArray[np.float32]
) -> Threshold:
    """Return the run's threshold without a rule, otherwise what the rule gives on these videos.

    Raises:
        RequestError: The videos do not allow the rule.
    """
    if rule is None:
        return Threshold(scores.threshold, "run", chosen_here=False)
    value = choose_threshold(is_fake, p_fake, rule)
    fixed = rule.kind == "fixed"
    return Threshold(rule.value if fixed else value, "given" if fixed else str(rule), chosen_here=not fixed)
