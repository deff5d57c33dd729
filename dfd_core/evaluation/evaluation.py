"""A scoring run measured against labels: faces and videos, all of them and part by part.

A video without a `p_fake` (`no_face`, `failed`) is counted beside the figures and enters none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.evaluation.cautions import label_warnings, run_warnings
from dfd_core.evaluation.coverage import Coverage, coverage_of
from dfd_core.evaluation.intervals import Bootstrap, Measured, Note, measure
from dfd_core.evaluation.populations import populations
from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.threshold_choice import Threshold, threshold_of
from dfd_core.evaluation.thresholds import ThresholdRule
from dfd_core.evaluation.truth import Scores, Truth
from dfd_core.evaluation.verdict_counts import RiskCoverage, VerdictCounts, risk_coverage, verdict_counts

LEVELS = ("video", "face")


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of some of the items.

    Attributes:
        level: `video` or `face`.
        by: The column whose value makes the part; None for all items.
        value: That value.
        contents: Which reals and fakes are in it, in words.
        measured: The figures.
        coverage: Of the part's videos; at both levels the same.
    """

    level: str
    by: str | None
    value: str | None
    contents: str
    measured: Measured
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The contents of a report.

    Attributes:
        parts: All videos, all faces, then the parts by column, each at both levels.
        scored: The items behind the two parts that hold everything, by level.
        truth: Where the labels came from and what did not add up.
        threshold: At which verdicts were judged.
        bootstrap: How the intervals were made.
        run: `run.json` of the scoring run.
        warnings: What the reader must know before believing a number.
        verdicts: The run's own verdicts: of all videos, then part by part; empty if it gave none.
        risk: Of the videos, at the threshold.
    """

    parts: tuple[Part, ...]
    scored: dict[str, Scored]
    truth: Truth
    threshold: Threshold
    bootstrap: Bootstrap
    run: dict[str, Any]
    warnings: tuple[Note, ...]
    verdicts: tuple[VerdictCounts, ...]
    risk: RiskCoverage

    def whole(self, level: str) -> Part:
        """Return the part that holds every item of `level`."""
        return next(part for part in self.parts if part.level == level and part.by is None)


def evaluate(scores: Scores, truth: Truth, *, rule: ThresholdRule | None, bootstrap: Bootstrap) -> Evaluation:
    """Return everything measured of `scores` against `truth`.

    Args:
        scores: The run's tables.
        truth: The labels, joined.
        rule: The threshold, or how to choose it on the videos; None takes the run's own.
        bootstrap: How to make the intervals.

    Raises:
        RequestError: The videos do not allow the rule.
    """
    videos = truth.videos
    score, is_fake, group = (videos[name].to_numpy() for name in ("p_fake", "is_fake", "group"))
    decided = ~np.isnan(score)
    threshold = threshold_of(scores, rule, is_fake[decided], score[decided])
    position = pc.index_in(
        scores.faces.column("video_id"), value_set=pa.array(videos["video_id"], pa.string())
    )
    of_video = position.fill_null(-1).to_numpy().astype(np.int64)
    face_score = scores.faces.column("p_fake").to_numpy()[of_video >= 0]
    of_video = of_video[of_video >= 0]
    parts: list[Part] = []
    wholes: dict[str, Scored] = {}
    for by, value, contents, members in populations(videos):
        coverage = coverage_of(videos[members])
        chosen = members & decided
        faces = members[of_video]
        items = {
            "video": Scored.of(is_fake[chosen], score[chosen], group[chosen]),
            "face": Scored.of(is_fake[of_video[faces]], face_score[faces], group[of_video[faces]]),
        }
        wholes = wholes or items
        for level in LEVELS:
            measured = measure(items[level], threshold=threshold.value, bootstrap=bootstrap)
            parts.append(Part(level, by, value, contents, measured, coverage))
    warnings = (*run_warnings(scores, threshold), *label_warnings(truth, wholes["video"].num_groups))
    return Evaluation(
        tuple(parts),
        wholes,
        truth,
        threshold,
        bootstrap,
        scores.run,
        warnings,
        verdict_counts(videos),
        risk_coverage(wholes["video"], threshold.value),
    )
