"""A scoring run's tables joined with labels, and measured: faces and videos, all of them and part by part.

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
import pyarrow.parquet as pq

from dfd_core import storage
from dfd_core.aggregate import STATUSES
from dfd_core.errors import ManifestError, OutputError
from dfd_core.intervals import MIN_GROUPS, Bootstrap, Measured, Note, measure
from dfd_core.manifest import LABELS
from dfd_core.metrics import Bools, Scored, ThresholdRule, called_fake, choose_threshold
from dfd_core.output import OutputFolder, parquet_files
from dfd_core.run_record import RunRecord

LEVELS = ("video", "face")
BY = ("method", "dataset", "compression")
"""Columns whose values make parts, where a table has them."""
MAX_PARTS = 50
"""Values of one column that are measured, those with most videos first."""
FEW_GROUPS = 30

_TRUTH = ("label", "group", *BY)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation reads of an output folder.

    Attributes:
        videos: `video_id status p_fake verdict`, and as text what there is of `label group method dataset compression`.
        faces: `video_id p_fake`.
        run: `run.json`.
    """

    videos: pa.Table
    faces: pa.Table
    run: dict[str, Any]

    @property
    def threshold(self) -> float:
        """The threshold that the verdicts in `videos/` were made with, as `run.json` says.

        Raises:
            OutputError: It does not say.
        """
        value = self.run.get("threshold", self.run.get("model", {}).get("threshold"))
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise OutputError(f"Expected a threshold from 0 to 1 in run.json. Received: {value!r}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Truth:
    """The scored videos that have a label, and what did not add up.

    Attributes:
        videos: One row per video with a label: `video_id status p_fake is_fake group` and what there is of `BY`;
            `p_fake` is nan for a video that is not decided, `group` a number, an empty value of `BY` is None.
        num_unlabelled: Rows of `videos/` without a label, which are left out.
        without_scores: `video_id` of labels that no row of `videos/` has.
        contradictory: `video_id` of videos labelled one way in the manifest and the other way in `videos/`.
        has_groups: Whether any video has a group; otherwise each is its own.
    """

    videos: pd.DataFrame
    num_unlabelled: int
    without_scores: tuple[str, ...]
    contradictory: tuple[str, ...]
    has_groups: bool


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


# --- reading ------------------------------------------------------------------------------------------------------


def read_scores(folder: str) -> Scores:
    """Return what an evaluation needs of the output folder of `jobs/score.py`.

    Raises:
        OutputError: It is no output folder, it has no tables yet, or they do not fit together.
    """
    out = OutputFolder(folder)
    out.refuse_missing()
    record = RunRecord.read(out)
    if record is None:
        raise OutputError(f"{folder} holds no run.json: it is not the output of jobs/score.py")
    videos = _read_columns(out.videos, ("video_id", "status", "p_fake"), ("verdict", *_TRUTH))
    faces = _read_columns(out.faces, ("video_id", "p_fake"), ())
    ids = videos.column("video_id")
    if len(pc.unique(ids)) != videos.num_rows:
        raise OutputError(f"{out.videos} holds a video_id twice")
    if not pc.all(pc.is_in(faces.column("video_id"), value_set=ids.combine_chunks())).as_py() and len(faces):
        raise OutputError(
            f"{out.faces} has faces of videos that {out.videos} does not list: the tables are of different runs"
        )
    for address, table in ((out.videos, videos), (out.faces, faces)):
        scores = pc.drop_null(table.column("p_fake"))
        inside = pc.and_(pc.greater_equal(scores, 0), pc.less_equal(scores, 1))
        if len(scores) and not pc.all(inside).as_py():
            raise OutputError(f"{address} holds a p_fake outside 0 to 1")
    if faces.column("p_fake").null_count:
        raise OutputError(f"{out.faces} holds a face without p_fake")
    return Scores(videos, faces, record.values)


def _read_columns(folder: str, required: Sequence[str], optional: Sequence[str]) -> pa.Table:
    fs, path = storage.filesystem(folder)
    try:
        files = parquet_files(fs, path)
        if not files:
            raise OutputError(f"{folder} holds no table: the run is not complete")
        present = pq.read_schema(files[0], filesystem=fs).names
        missing = [name for name in required if name not in present]
        if missing:
            raise OutputError(f"{folder} has no column {', '.join(missing)}")
        names = [*required, *(name for name in optional if name in present)]
        tables = [pq.read_table(file, columns=names, filesystem=fs, partitioning=None) for file in files]
        table = pa.concat_tables(tables)
        score = pa.array([], pa.float32()).type
        types = [pa.field(name, score if name == "p_fake" else pa.string()) for name in names]
        return table.select(names).cast(pa.schema(types))
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{folder} cannot be read: {storage.one_line(error)}") from error


# --- labels -------------------------------------------------------------------------------------------------------


def join_labels(scores: Scores, manifest: pa.Table | None) -> Truth:
    """Return the scored videos that have a label, joined by `video_id`.

    With a manifest only its labels count, so that a part of the scored videos can be judged by listing that part. A
    column that it lacks (`group` and those of `BY`) is taken from `videos/`.

    Args:
        scores: The run's tables.
        manifest: As `manifest.read_source` returns it; None: the labels that `videos/` carries.

    Raises:
        ManifestError: There are no labels, or none of them is of a scored video.
    """
    videos = _frame(scores.videos)
    own_labels = videos.get("label", pd.Series(None, videos.index, dtype=object))
    without_scores: list[str] = []
    contradictory: list[str] = []
    if manifest is not None:
        if "label" not in manifest.column_names:
            raise ManifestError(f"Expected a column 'label' in the labels. Received: {manifest.column_names}")
        given = _frame(_as_text(manifest)).set_index("video_id")
        without_scores = list(given.index[given["label"].notna() & ~given.index.isin(videos["video_id"])])
        for name in given.columns:
            videos[name] = given[name].reindex(videos["video_id"]).to_numpy()
        differs = own_labels.notna() & videos["label"].notna() & (own_labels != videos["label"])
        contradictory = list(videos["video_id"][differs])
    elif "label" not in videos:
        raise ManifestError("The scores carry no labels. Give a manifest with video_id and label as --labels")
    wrong = videos["label"][videos["label"].notna() & ~videos["label"].isin(LABELS)]
    if len(wrong):
        raise ManifestError(f"Expected the label {' or '.join(LABELS)}. Received: {wrong.iloc[0]!r}")
    labelled = videos[videos["label"].notna()].reset_index(drop=True)
    if labelled.empty:
        raise ManifestError(_no_labels(videos, without_scores))
    groups = labelled.get("group", pd.Series(None, labelled.index, dtype=object))
    labelled["is_fake"] = labelled["label"] == "fake"
    keys = [
        ("group", group) if group is not None else ("video", video_id)
        for group, video_id in zip(groups, labelled["video_id"], strict=True)
    ]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    labelled["group"] = np.array([numbers[key] for key in keys], np.int64)
    return Truth(
        labelled,
        len(videos) - len(labelled),
        tuple(without_scores),
        tuple(contradictory),
        has_groups=bool(groups.notna().any()),
    )


def _no_labels(videos: pd.DataFrame, without_scores: Sequence[str]) -> str:
    if not without_scores or videos.empty:
        return "No scored video has a label"
    return (
        f"No label is of a scored video: the labels name {without_scores[0]!r}, "
        f"the scores {videos['video_id'].iloc[0]!r}. They are joined by video_id"
    )


def _as_text(manifest: pa.Table) -> pa.Table:
    names = ["video_id", *(name for name in _TRUTH if name in manifest.column_names)]
    try:
        return manifest.select(names).cast(pa.schema([pa.field(name, pa.string()) for name in names]))
    except pa.ArrowException as error:
        raise ManifestError(f"Expected text in the columns {', '.join(names)} of the labels") from error


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return `table` with plain Python texts, empty ones as None, as CSV cannot tell them from nothing."""
    columns = {}
    for name in table.column_names:
        if name == "p_fake":
            columns[name] = pd.Series(table.column(name).to_numpy(), dtype=np.float32)
        else:
            texts = [text or None for text in table.column(name).to_pylist()]
            columns[name] = pd.Series(texts, dtype=object)
    return pd.DataFrame(columns)


# --- measuring ----------------------------------------------------------------------------------------------------


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
    parts, wholes = [], {}
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
    warnings = tuple(_warnings(scores, truth, threshold, wholes["video"]))
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
        if by not in videos:
            continue
        makers = videos[by][is_fake] if by == "method" else videos[by]
        for value in (
            makers.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:MAX_PARTS]
        ):
            has_value = (videos[by] == value).to_numpy()
            if by != "method":
                yield by, value, f"reals and fakes of {by} {value}", has_value
                continue
            fakes = has_value & is_fake
            if "dataset" not in videos:
                yield by, value, f"fakes of method {value} and all reals", fakes | ~is_fake
                continue
            homes = videos["dataset"][fakes].map(lambda name: name or "").unique()
            reals = ~is_fake & videos["dataset"].map(lambda name: name or "").isin(homes).to_numpy()
            named = ", ".join(sorted(home or "(none)" for home in homes))
            yield by, value, f"fakes of method {value} and all reals of dataset {named}", fakes | reals


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


def _warnings(scores: Scores, truth: Truth, threshold: Threshold, videos: Scored) -> Iterator[Note]:
    if not scores.run.get("model", {}).get("trained", True):
        yield Note(
            "untrained", "The model is untrained: its scores are noise, and so is everything on this page."
        )
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
        yield Note(
            "verdicts_differ",
            f"{differing:,} verdicts in videos/ were made with another threshold than run.json names.",
        )
    if truth.contradictory:
        yield Note(
            "contradictory_labels",
            f"{len(truth.contradictory):,} videos are labelled one way in the manifest and the other way in videos/; "
            f"the manifest counts: {_some(truth.contradictory)}",
        )
    if truth.without_scores:
        yield Note(
            "labels_without_scores",
            f"{len(truth.without_scores):,} labels are of videos that were not scored: {_some(truth.without_scores)}",
        )
    if truth.num_unlabelled:
        yield Note("unlabelled", f"{truth.num_unlabelled:,} scored videos have no label and are left out.")
    if not truth.has_groups:
        yield Note(
            "no_groups",
            "No video has a group, so each is resampled alone. Where fakes share a source with reals or with one "
            "another, the intervals are too narrow.",
        )
    elif MIN_GROUPS <= videos.num_groups < FEW_GROUPS:
        yield Note(
            "few_groups",
            f"The videos fall into {videos.num_groups} groups. Intervals from fewer than {FEW_GROUPS} are rough, "
            "and rather too narrow.",
        )
    for by in BY:
        num_values = truth.videos[by].nunique() if by in truth.videos else 0
        if num_values > MAX_PARTS:
            yield Note(
                "parts_left_out",
                f"{by} has {num_values:,} values; the {MAX_PARTS} with most videos are measured.",
            )


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
