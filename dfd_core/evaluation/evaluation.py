"""A scoring run measured against labels: faces and videos, all of them and part by part.

A video without a `p_fake` (`no_face`, `failed`) is counted beside the figures and enters none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.answers.aggregate import STATUSES
from dfd_core.evaluation.intervals import MIN_GROUPS, Bootstrap, Measured, Note, measure
from dfd_core.evaluation.metrics import Bools, Scored, ThresholdRule, called_fake, choose_threshold
from dfd_core.evaluation.truth import BY, Scores, Truth
from dfd_core.sources.manifest import LABELS

LEVELS = ("video", "face")
MAX_PARTS = 50
"""Values of one column that are measured, those with most videos first."""
FEW_GROUPS = 30

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many labelled videos have a score.

    Attributes:
        decided: Videos with a `p_fake`, by label.
        undecided: Videos without, by status and label.
    """

    decided: dict[str, int]
    undecided: dict[str, dict[str, int]]

    @property
    def num_decided(self) -> int:
        """Videos with a `p_fake`."""
        return sum(self.decided.values())

    @property
    def num_undecided(self) -> int:
        """Videos without one."""
        return sum(sum(by_label.values()) for by_label in self.undecided.values())

    @property
    def share(self) -> float | None:
        """The share of labelled videos that have a `p_fake`; None without videos."""
        total = self.num_decided + self.num_undecided
        return self.num_decided / total if total else None


@dataclass(frozen=True, slots=True)
class Part:
    """What was measured over some of the items.

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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that a report says.

    Attributes:
        parts: All videos, all faces, then the parts by column, each at both levels.
        scored: The items behind the two parts that hold everything, by level.
        truth: Where the labels came from and what did not add up.
        threshold: At which verdicts were judged.
        bootstrap: How the intervals were made.
        run: `run.json` of the scoring run.
        warnings: What the reader must know before believing a number.
    """

    parts: tuple[Part, ...]
    scored: dict[str, Scored]
    truth: Truth
    threshold: Threshold
    bootstrap: Bootstrap
    run: dict[str, Any]
    warnings: tuple[Note, ...]

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
    threshold = _threshold(scores, rule, is_fake[decided], score[decided])
    position = pc.index_in(
        scores.faces.column("video_id"), value_set=pa.array(videos["video_id"], pa.string())
    )
    of_video = position.fill_null(-1).to_numpy().astype(np.int64)
    face_score = scores.faces.column("p_fake").to_numpy()[of_video >= 0]
    of_video = of_video[of_video >= 0]
    parts: list[Part] = []
    wholes: dict[str, Scored] = {}
    for by, value, contents, members in _populations(videos):
        coverage = _coverage(videos[members])
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
    warnings = (*_run_warnings(scores, threshold), *_label_warnings(truth, wholes["video"].num_groups))
    return Evaluation(tuple(parts), wholes, truth, threshold, bootstrap, scores.run, warnings)


def _threshold(
    scores: Scores, rule: ThresholdRule | None, is_fake: Bools, p_fake: npt.NDArray[np.float32]
) -> Threshold:
    if rule is None:
        return Threshold(scores.threshold, "run", chosen_here=False)
    value = choose_threshold(is_fake, p_fake, rule)
    fixed = rule.kind == "fixed"
    return Threshold(rule.value if fixed else value, "given" if fixed else str(rule), chosen_here=not fixed)


def _populations(videos: pd.DataFrame) -> Iterator[tuple[str | None, str | None, str, Bools]]:
    """Yield column, value, contents in words and the members (videos,), everything first.

    A value of `dataset` or `compression` holds the reals and fakes that have it. A `method` holds its fakes and every
    real of the datasets that these are from, whatever the reals' own method says.
    """
    yield None, None, "every labelled item", np.ones(len(videos), np.bool_)
    is_fake = videos["is_fake"].to_numpy()
    for by in BY:
        for value in _values(videos, by)[:MAX_PARTS]:
            members = (videos[by] == value).to_numpy()
            if by != "method":
                yield by, value, f"reals and fakes of {by} {value}", members
                continue
            fakes = members & is_fake
            homes = _homes(videos)
            reals = ~is_fake & np.isin(homes, np.unique(homes[fakes]))
            named = (
                ", ".join(repr(home) for home in np.unique(homes[fakes]).tolist())
                if "dataset" in videos
                else ""
            )
            yield (
                by,
                value,
                f"fakes of method {value} and all reals" + (named and f" of dataset {named}"),
                fakes | reals,
            )


def _values(videos: pd.DataFrame, by: str) -> list[str]:
    """Return the values of column `by` that make parts, those of most videos first; a method's are those of fakes."""
    if by not in videos:
        return []
    makers = videos[by][videos["is_fake"]] if by == "method" else videos[by]
    return list(makers.value_counts().sort_index().sort_values(ascending=False, kind="stable").index)


def _homes(videos: pd.DataFrame) -> npt.NDArray[Any]:
    """Return the dataset of each video, empty where it is not known."""
    if "dataset" not in videos:
        return np.full(len(videos), "")
    return np.array([home or "" for home in videos["dataset"]], str)


def _coverage(videos: pd.DataFrame) -> Coverage:
    def by_label(rows: pd.DataFrame) -> dict[str, int]:
        return {label: int((rows["label"] == label).sum()) for label in LABELS}

    decided = videos["p_fake"].notna()
    undecided = videos[~decided]
    statuses = list(
        dict.fromkeys(["no_face", "failed", *(s for s in STATUSES if (undecided["status"] == s).any())])
    )
    return Coverage(
        by_label(videos[decided]),
        {status: by_label(undecided[undecided["status"] == status]) for status in statuses},
    )


def _run_warnings(scores: Scores, threshold: Threshold) -> Iterator[Note]:
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


def _label_warnings(truth: Truth, num_groups: int) -> Iterator[Note]:
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
        num_values = len(_values(truth.videos, by))
        if num_values > MAX_PARTS:
            text = f"{by} has {num_values:,} values; the {MAX_PARTS} with most videos are measured."
            yield Note("parts_left_out", text)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _differing_verdicts(scores: Scores, threshold: Threshold) -> int:
    if threshold.source != "run" or "verdict" not in scores.videos.column_names:
        return 0
    decided = scores.videos.filter(pc.is_valid(scores.videos.column("p_fake")))
    ours = called_fake(decided.column("p_fake").to_numpy(), threshold.value)
    theirs = np.array([verdict == "fake" for verdict in decided.column("verdict").to_pylist()], np.bool_)
    return int((ours != theirs).sum())


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(repr(name) for name in ids[:_NAMED]) + more
