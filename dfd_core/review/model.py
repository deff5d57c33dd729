"""What a run's record says of the model that scored: its thresholds, its limits, and the errors to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dfd_core.answers.verdicts import VerdictRule
from dfd_core.errors import OutputError
from dfd_core.model.quality_limits import QualityLimits


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """The model of a run.

    Attributes:
        model_id: Its name and the first digits of its hash.
        trained: False for random weights.
        sha256: Of the model's file; None if the run does not say.
        rule: How scores became verdicts.
        card: The model's card; empty in runs of older versions.
    """

    model_id: str
    trained: bool
    sha256: str | None
    rule: VerdictRule
    card: Mapping[str, Any]

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Self:
        """Return the model that `run.json` names.

        Raises:
            OutputError: Its thresholds or limits are unusable.
        """
        model = run["model"]
        card = model.get("card") or {}
        found = run.get("verdict_rule") or card
        threshold = run.get("threshold", model.get("threshold", 0.5))
        low, high = (found.get(name) for name in ("threshold_low", "threshold_high"))
        try:
            if low is None or high is None:
                rule = VerdictRule.single(threshold)
            else:
                rule = VerdictRule(low, high, QualityLimits.from_card(found.get("limits") or {}))
        except (TypeError, ValueError) as error:
            raise OutputError(f"run.json holds an unusable rule of verdicts: {error}") from error
        return cls(str(model.get("model_id")), model.get("trained", True), model.get("sha256"), rule, card)

    def expected_errors(self, verdict: str | None) -> str:
        """Return what the card says about errors of such a verdict. Nothing is added to it."""
        if verdict is None:
            return ""
        stated = self.card.get("verdict_rule")
        if not stated:
            return "The model card states no error rate for such a score."
        return f"On the errors to expect the model card says: “{stated}”"
