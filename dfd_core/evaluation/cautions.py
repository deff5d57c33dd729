"""What the reader of an evaluation must know before believing a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from dfd_core.evaluation import populations
from dfd_core.evaluation.intervals import MIN_GROUPS, Note
from dfd_core.evaluation.scored import called_fake
from dfd_core.evaluation.threshold_choice import Threshold
from dfd_core.evaluation.truth import BY, Scores, Truth

FEW_GROUPS = 30

_NAMED = 5


def run_warnings(scores: Scores, threshold: Threshold) -> Iterator[Note]:
    """Yield what the run and the threshold make doubtful."""
    if not scores.run["model"].get("trained", True):
        yield Note("untrained", "The model is untrained: its scores are noise, and so are all figures.")
    outcome = scores.run.get("outcome")
    if outcome not in ("complete", "too_many_failed"):
        yield Note(
            "unfinished",
            f"The scoring run is not complete ({outcome}): its tables are of an earlier attempt.",
        )
    if threshold.chosen_here:
        yield Note(
            "threshold_chosen_here",
            f"The threshold {threshold.value:.4g} was chosen by {threshold.source} on the very videos that are judged "
            "here. Accuracy, balanced accuracy and the confusion matrix are therefore too good, and their intervals, "
            "which keep the threshold fixed, too narrow.",
        )
    differing = _differing_verdicts(scores, threshold)
    if differing:
        verdicts = _count(differing, "verdict in videos/ was", "verdicts in videos/ were")
        yield Note("verdicts_differ", f"{verdicts} made with another threshold than run.json names.")


def label_warnings(truth: Truth, num_groups: int) -> Iterator[Note]:
    """Yield what the labels and groups make doubtful; `num_groups` are those of the decided videos."""
    if truth.contradictory:
        videos = _count(len(truth.contradictory), "video is", "videos are")
        yield Note(
            "contradictory_labels",
            f"{videos} labelled one way in the manifest and the other way in videos/; the manifest counts: "
            f"{_some(truth.contradictory)}",
        )
    if truth.without_scores:
        labels = _count(
            len(truth.without_scores), "label is of a video that was", "labels are of videos that were"
        )
        yield Note("labels_without_scores", f"{labels} not scored: {_some(truth.without_scores)}")
    if truth.num_unlabelled:
        videos = _count(
            truth.num_unlabelled,
            "scored video has no label and is",
            "scored videos have no label and are",
        )
        yield Note("unlabelled", f"{videos} left out of every count.")
    if not truth.has_groups:
        yield Note(
            "no_groups",
            "No video has a group, so each is resampled alone. Where fakes share a source with reals or with one "
            "another, the intervals are too narrow.",
        )
    elif MIN_GROUPS <= num_groups < FEW_GROUPS:
        yield Note(
            "few_groups",
            f"The videos fall into {num_groups} groups. Intervals from fewer than {FEW_GROUPS} are rough, and rather "
            "too narrow.",
        )
    for by in BY:
        num_values = len(populations.values_of(truth.videos, by))
        if num_values > populations.MAX_PARTS:
            text = (
                f"{by} has {num_values:,} values; the {populations.MAX_PARTS} with most videos are measured."
            )
            yield Note("parts_left_out", text)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _differing_verdicts(scores: Scores, threshold: Threshold) -> int:
    """Return how many verdicts one threshold does not explain; a run with two of them is not asked."""
    if threshold.source != "run" or "verdict" not in scores.videos.column_names or _has_two(scores.run):
        return 0
    decided = scores.videos.filter(pc.is_valid(scores.videos.column("p_fake")))
    ours = called_fake(decided.column("p_fake").to_numpy(), threshold.value)
    theirs = np.array([verdict == "fake" for verdict in decided.column("verdict").to_pylist()], np.bool_)
    return int((ours != theirs).sum())


def _has_two(run: Mapping[str, Any]) -> bool:
    """Return whether the verdicts of a run follow two thresholds, by its own rule or by its card's."""
    rule = run.get("verdict_rule") or run["model"].get("card") or {}
    return rule.get("threshold_low") is not None and rule["threshold_low"] != rule["threshold_high"]


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(repr(name) for name in ids[:_NAMED]) + more
