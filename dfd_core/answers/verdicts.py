"""From a score and the quality of what was scored to a verdict: `real`, `fake` or `uncertain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.errors import RequestError
from dfd_core.model.card import ModelCard
from dfd_core.model.quality_limits import QualityLimits

REASONS = {
    "few_frames": "too few frames with a face",
    "small_faces": "the faces are smaller than those that the model knows",
    "blurred": "the faces show too little detail",
    "compressed": "the video is compressed too strongly",
    "between_thresholds": "the score lies between the two thresholds",
}
"""Every `uncertain_reason`, and what it means; if several hold, the first one is given."""


@dataclass(frozen=True, slots=True)
class VerdictRule:
    """How scores become verdicts.

    Attributes:
        threshold_low: The verdict is real below it; p_fake in [0, 1].
        threshold_high: The verdict is fake from it on; at least `threshold_low`.
        limits: The quality below which the verdict is uncertain.
    """

    threshold_low: float
    threshold_high: float
    limits: QualityLimits = QualityLimits()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_low <= self.threshold_high <= 1:
            raise ValueError(
                f"Expected 0 <= low <= high <= 1. Received: {self.threshold_low} and {self.threshold_high}"
            )

    @classmethod
    def single(cls, threshold: float) -> Self:
        """Return the rule of one threshold, which knows no `uncertain`."""
        return cls(threshold, threshold)

    @classmethod
    def of_card(cls, card: ModelCard) -> Self:
        """Return the rule of a card; a card with one threshold gives two verdicts."""
        if card.threshold_low is None or card.threshold_high is None:
            return cls.single(card.threshold)
        return cls(card.threshold_low, card.threshold_high, QualityLimits.from_card(card.limits))

    @classmethod
    def parse(cls, text: str, limits: QualityLimits) -> Self:
        """Return the rule that a flag names: `T` for two verdicts, or `LOW:HIGH` for three, within `limits`.

        Raises:
            RequestError: The text is neither.

        >>> VerdictRule.parse("0.2:0.9", QualityLimits()).threshold_low
        0.2
        """
        low, colon, high = text.partition(":")
        try:
            return cls(float(low), float(high), limits) if colon else cls.single(float(low))
        except ValueError:
            raise RequestError(f"Expected a threshold of 0 to 1, or LOW:HIGH. Received: {text!r}") from None

    def as_json(self) -> dict[str, Any]:
        """Return the rule as values that JSON holds."""
        edges = {"threshold_low": self.threshold_low, "threshold_high": self.threshold_high}
        return {**edges, "limits": self.limits.to_card()}


def with_verdicts(scored: pa.Table, rule: VerdictRule) -> pa.Table:
    """Return `scored` with the columns `verdict` and `uncertain_reason`, both null where `p_fake` is.

    Args:
        scored: A row for each video or track. `p_fake` (float32) is needed. `num_scored_frames`, `side_px`, `sharpness`,
            `blockiness` and `bits_per_pixel` are used where they are there; a null passes every limit.
        rule: The thresholds, compared as float32, and the limits.
    """
    p_fake, limits = scored.column("p_fake"), rule.limits
    low, high = (
        pa.scalar(np.float32(edge), pa.float32()) for edge in (rule.threshold_low, rule.threshold_high)
    )
    reason = pa.nulls(scored.num_rows, pa.string())
    checks = (
        (pc.and_(pc.greater_equal(p_fake, low), pc.less(p_fake, high)), "between_thresholds"),
        (_beyond(scored, "bits_per_pixel", pc.less, limits.min_bits_per_pixel), "compressed"),
        (_beyond(scored, "blockiness", pc.greater, limits.max_blockiness), "compressed"),
        (_beyond(scored, "sharpness", pc.less, limits.min_sharpness), "blurred"),
        (_beyond(scored, "side_px", pc.less, limits.min_side_px), "small_faces"),
        (_beyond(scored, "num_scored_frames", pc.less, limits.min_frames), "few_frames"),
    )
    for holds, name in checks:
        if holds is not None:
            reason = pc.if_else(pc.fill_null(holds, False), name, reason)
    reason = pc.if_else(pc.is_valid(p_fake), reason, None)
    called = pc.if_else(pc.greater_equal(p_fake, high), "fake", "real")
    verdict = pc.if_else(pc.is_valid(reason), "uncertain", called)
    return scored.append_column("verdict", verdict).append_column("uncertain_reason", reason)


def _beyond(scored: pa.Table, name: str, compare: object, limit: float | None) -> pa.ChunkedArray | None:
    """Return where a column is beyond its limit, null where the column is; None where nothing limits it."""
    if limit is None or name not in scored.column_names:
        return None
    return compare(scored.column(name), float(limit))  # type: ignore[operator]
