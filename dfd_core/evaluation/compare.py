"""Two scoring runs of the same videos: what changed in the figures, the verdicts, the scores and the measures.

Figures need labels and videos that both runs decided. Everything else needs neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.intervals import MIN_GROUPS, Bootstrap, Estimate, Note, draws, measure, with_interval
from dfd_core.evaluation.measures import MEASURES, read_measures
from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.shifts import Shift, shift_of
from dfd_core.evaluation.truth import Scores, join_labels, read_scores
from dfd_core.evaluation.weighted import weighted_figures

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two runs.

    Attributes:
        name: Its address, for the reader.
        scores: Its tables and `run.json`.
        measures: What `measures.read_measures` returns.
    """

    name: str
    scores: Scores
    measures: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Change:
    """A figure in both runs over the same videos.

    Attributes:
        a: Its value in the first run; None where the videos do not define it.
        b: In the second.
        difference: `b - a`, with the interval of the paired bootstrap.
    """

    a: float | None
    b: float | None
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Flip:
    """A video with another verdict in the second run.

    Attributes:
        video_id: The video.
        label: `real` or `fake`; None if it has none.
        verdict_a: In the first run.
        verdict_b: In the second.
        p_fake_a: In the first run.
        p_fake_b: In the second.
    """

    video_id: str
    label: str | None
    verdict_a: str
    verdict_b: str
    p_fake_a: float
    p_fake_b: float

    @property
    def is_opposite(self) -> bool:
        """Whether fake became real, or real became fake; not by way of uncertain."""
        return {self.verdict_a, self.verdict_b} == {"fake", "real"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a comparison says.

    Attributes:
        models: `model_id` of both runs.
        thresholds: Of both runs.
        num_videos: Videos of the first, the second, and both.
        num_labelled: Videos with a label that both runs decided.
        num_groups: Groups of these.
        changes: A change for each name in `DEFINITIONS`; empty without labels.
        flips: The most serious first.
        verdicts: How often each pair of verdicts occurs, over the videos of both; None for an undecided one.
        statuses: How often each pair of statuses occurs.
        shifts: Of `p_fake` and of every measure that both runs have.
        bootstrap: How the intervals were made.
        warnings: What the reader must know before believing a number.
    """

    models: tuple[str, str]
    thresholds: tuple[float, float]
    num_videos: tuple[int, int, int]
    num_labelled: int
    num_groups: int
    changes: dict[str, Change]
    flips: tuple[Flip, ...]
    verdicts: dict[tuple[str | None, str | None], int]
    statuses: dict[tuple[str, str], int]
    shifts: tuple[Shift, ...]
    bootstrap: Bootstrap
    warnings: tuple[Note, ...]


def read_run(folder: str) -> Run:
    """Return what a comparison needs of an output folder.

    Raises:
        OutputError: It is no output folder, or it has no tables yet.
    """
    return Run(folder, read_scores(folder), read_measures(folder))


def compare(a: Run, b: Run, manifest: pa.Table | None, *, bootstrap: Bootstrap) -> Comparison:
    """Return what changed from run `a` to run `b`.

    Args:
        a: The first run.
        b: The second.
        manifest: Labels; None for those that the runs carry, if any.
        bootstrap: How the intervals are made.

    Raises:
        RequestError: The labels cannot be used.
    """
    videos_a, videos_b = (_videos(run) for run in (a, b))
    both = videos_a.merge(videos_b, on="video_id", suffixes=("_a", "_b"))
    labelled, notes = _labelled(a, b, manifest)
    changes, num_groups = _changes(labelled, (a.scores.threshold, b.scores.threshold), bootstrap)
    return Comparison(
        models=(_model(a), _model(b)),
        thresholds=(a.scores.threshold, b.scores.threshold),
        num_videos=(len(videos_a), len(videos_b), len(both)),
        num_labelled=len(labelled),
        num_groups=num_groups,
        changes=changes,
        flips=_flips(both, labelled),
        verdicts=_pairs(both["verdict_a"], both["verdict_b"]),
        statuses=_pairs(both["status_a"], both["status_b"]),
        shifts=_shifts(a, b, bootstrap),
        bootstrap=bootstrap,
        warnings=(*notes, *_notes(both)),
    )


def _model(run: Run) -> str:
    return str(run.scores.run["model"].get("model_id", "an unnamed model"))


def _videos(run: Run) -> pd.DataFrame:
    table = run.scores.videos
    verdicts = table.column("verdict").to_pylist() if "verdict" in table.column_names else None
    return pd.DataFrame(
        {
            "video_id": pd.Series(table.column("video_id").to_pylist(), dtype=object),
            "status": pd.Series(table.column("status").to_pylist(), dtype=object),
            "p_fake": table.column("p_fake").to_numpy().astype(np.float32),
            "verdict": pd.Series(verdicts or [None] * len(table), dtype=object),
        }
    )


def _labelled(a: Run, b: Run, manifest: pa.Table | None) -> tuple[pd.DataFrame, list[Note]]:
    """Return the labelled videos that both runs decided: `video_id is_fake group p_fake_a p_fake_b`."""
    carries = [manifest is not None or _has_labels(run) for run in (a, b)]
    if not any(carries):
        return pd.DataFrame(columns=["video_id", "is_fake", "group", "p_fake_a", "p_fake_b"]), []
    first, second = (a, b) if carries[0] else (b, a)
    truth = join_labels(first.scores, manifest).videos
    other = _videos(second)
    merged = truth.merge(other, on="video_id", suffixes=("", "_other"))
    own, others = ("p_fake_a", "p_fake_b") if first is a else ("p_fake_b", "p_fake_a")
    merged = merged.rename(columns={"p_fake": own, "p_fake_other": others})
    decided = merged[merged["p_fake_a"].notna() & merged["p_fake_b"].notna()].reset_index(drop=True)
    notes = []
    if len(decided) < len(truth):
        left_out = len(truth) - len(decided)
        notes.append(
            Note(
                "undecided", f"{left_out:,} labelled videos are not decided by both runs and enter no figure."
            )
        )
    return decided[["video_id", "is_fake", "group", "p_fake_a", "p_fake_b"]], notes


def _has_labels(run: Run) -> bool:
    table = run.scores.videos
    return "label" in table.column_names and any(table.column("label").to_pylist())


def _changes(
    labelled: pd.DataFrame, thresholds: tuple[float, float], bootstrap: Bootstrap
) -> tuple[dict[str, Change], int]:
    if labelled.empty:
        return {}, 0
    items = [
        Scored.of(labelled["is_fake"].astype(bool), labelled[name], labelled["group"])
        for name in ("p_fake_a", "p_fake_b")
    ]
    measured = [
        measure(scored, threshold=threshold, bootstrap=bootstrap)
        for scored, threshold in zip(items, thresholds, strict=True)
    ]
    drawn = (
        _drawn_differences(items, thresholds, bootstrap)
        if items[0].num_groups >= MIN_GROUPS
        and all(found.figures["accuracy"].value is not None for found in measured)
        else {}
    )
    changes = {}
    for name in DEFINITIONS:
        before, after = (found.figures[name] for found in measured)
        if before.value is None or after.value is None:
            missing = before if before.value is None else after
            changes[name] = Change(before.value, after.value, Estimate(None, notes=missing.notes))
            continue
        difference = with_interval(
            after.value - before.value, drawn.get(name), items[0].num_groups, bootstrap.confidence
        )
        changes[name] = Change(before.value, after.value, difference)
    return changes, items[0].num_groups


def _drawn_differences(
    items: list[Scored], thresholds: tuple[float, float], bootstrap: Bootstrap
) -> dict[str, Floats]:
    """Return each figure's difference in every resample: both runs are weighed by the same groups."""
    parts: list[dict[str, Floats]] = []
    for weights in draws(items[0], bootstrap):
        before, after = (
            weighted_figures(scored, threshold, weights)
            for scored, threshold in zip(items, thresholds, strict=True)
        )
        parts.append({name: after[name] - before[name] for name in DEFINITIONS})
    return {name: np.concatenate([part[name] for part in parts]) for name in DEFINITIONS}


def _flips(both: pd.DataFrame, labelled: pd.DataFrame) -> tuple[Flip, ...]:
    label_of: dict[str, str] = {
        video_id: "fake" if is_fake else "real"
        for video_id, is_fake in zip(labelled["video_id"], labelled["is_fake"], strict=True)
    }
    decided = both[both["verdict_a"].notna() & both["verdict_b"].notna()]
    changed = decided[decided["verdict_a"] != decided["verdict_b"]]
    names = ["video_id", "verdict_a", "verdict_b", "p_fake_a", "p_fake_b"]
    flips = [
        Flip(video_id, label_of.get(video_id), verdict_a, verdict_b, float(p_fake_a), float(p_fake_b))
        for video_id, verdict_a, verdict_b, p_fake_a, p_fake_b in changed[names].itertuples(index=False)
    ]
    return tuple(
        sorted(
            flips, key=lambda flip: (not flip.is_opposite, -abs(flip.p_fake_b - flip.p_fake_a), flip.video_id)
        )
    )


def _pairs(before: pd.Series, after: pd.Series) -> dict[tuple[Any, Any], int]:
    pairs = zip(before, after, strict=True)
    plain = ((None if pd.isna(a) else a, None if pd.isna(b) else b) for a, b in pairs)
    return dict(sorted(Counter(plain).items(), key=lambda item: str(item[0])))


def _shifts(a: Run, b: Run, bootstrap: Bootstrap) -> tuple[Shift, ...]:
    names = [name for name in ("p_fake", *MEASURES) if name in a.measures and name in b.measures]
    found = (shift_of(name, a.measures, b.measures, bootstrap=bootstrap) for name in names)
    return tuple(shift for shift in found if shift is not None)


def _notes(both: pd.DataFrame) -> list[Note]:
    if both.empty:
        return [
            Note("no_common_videos", "The runs have no video_id in common: only distributions are compared.")
        ]
    return []
