"""A scoring run's tables, and the labels of their videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.errors import ManifestError, OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.sources.manifest import LABELS
from dfd_core.storage.address import Address
from dfd_core.storage.tables import parquet_files
from dfd_core.storage.text import one_line

BY = ("method", "dataset", "compression")
"""Columns whose values make parts, where a table has them."""

_TRUTH = ("label", "group", *BY)


@dataclass(frozen=True, slots=True)
class Scores:
    """The parts of an output folder that an evaluation reads.

    Attributes:
        videos: `video_id status p_fake verdict`, and as text what there is of `uncertain_reason label group method dataset
            compression`.
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
        value = self.run.get("threshold", self.run["model"].get("threshold"))
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise OutputError(f"Expected a threshold from 0 to 1 in run.json. Received: {value!r}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Truth:
    """The scored videos that have a label, and the contradictions.

    Attributes:
        videos: One row per video with a label: `video_id status p_fake is_fake group`, and what there is of `verdict`,
            `uncertain_reason` and `BY`;
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


def read_scores(folder: str) -> Scores:
    """Return the tables and the record of a scoring run's output folder.

    Raises:
        OutputError: It is no output folder, it has no tables yet, or they do not fit together.
    """
    out = OutputFolder.at(folder)
    out.refuse_missing()
    record = RunRecord.read(out)
    if record is None:
        raise OutputError(f"{folder} holds no run.json: it is not the output of jobs/score.py")
    if not isinstance(record.values.get("model"), dict):
        raise OutputError(f"{out.run_json} names no model")
    videos = read_columns(
        out.videos, ("video_id", "status", "p_fake"), ("verdict", "uncertain_reason", *_TRUTH)
    )
    faces = read_columns(out.faces, ("video_id", "p_fake"), ())
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


def read_columns(
    folder: Address, required: Sequence[str], optional: Sequence[str], *, numbers: Sequence[str] = ()
) -> pa.Table:
    """Return columns of a table in an output folder: `p_fake` as float32, `numbers` as float64, all others as text.

    Args:
        folder: Of the table.
        required: Columns that must be there.
        optional: Columns that are left out where they are not.
        numbers: Which of these hold numbers.

    Raises:
        OutputError: The table is not there, lacks a column, or cannot be read.
    """
    fs = folder.fs
    try:
        files = parquet_files(folder)
        if not files:
            raise OutputError(f"{folder} holds no table: the run is not complete")
        present = pq.read_schema(files[0], filesystem=fs).names
        missing = [name for name in required if name not in present]
        if missing:
            raise OutputError(f"{folder} has no column {', '.join(missing)}")
        names = [*required, *(name for name in optional if name in present)]
        tables = [pq.read_table(file, columns=names, filesystem=fs, partitioning=None) for file in files]
        table = pa.concat_tables(tables)
        kinds = {"p_fake": pa.float32(), **dict.fromkeys(numbers, pa.float64())}
        types = [pa.field(name, kinds.get(name, pa.string())) for name in names]
        return table.select(names).cast(pa.schema(types))
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{folder} cannot be read: {one_line(error)}") from error


def join_labels(scores: Scores, manifest: pa.Table | None) -> Truth:
    """Return the scored videos that have a label, joined by `video_id`.

    With a manifest only its labels count, so that a part of the scored videos can be judged by listing that part. A
    column that it lacks (`group` and those of `BY`) is taken from `videos/`.

    Args:
        scores: The run's tables.
        manifest: As `read_videos` returns it; None: the labels that `videos/` carries.

    Raises:
        ManifestError: There are no labels, or none of them is of a scored video.
    """
    videos = _frame(scores.videos)
    without_scores: list[str] = []
    contradictory: list[str] = []
    if manifest is not None:
        if "label" not in manifest.column_names:
            raise ManifestError(f"Expected a column 'label' in the labels. Received: {manifest.column_names}")
        given = _frame(_as_text(manifest)).set_index("video_id")
        without_scores = list(given.index[given["label"].notna() & ~given.index.isin(videos["video_id"])])
        given = given.reindex(videos["video_id"]).reset_index(drop=True)
        if "label" in videos:
            both = videos["label"].notna() & given["label"].notna()
            contradictory = list(videos["video_id"][both & (videos["label"] != given["label"])])
        videos[given.columns] = given
    elif "label" not in videos:
        raise ManifestError("The scores carry no labels. Give a manifest with uri and label as --labels")
    labelled = videos[videos["label"].notna()].reset_index(drop=True)
    wrong = labelled["label"][~labelled["label"].isin(LABELS)]
    if len(wrong):
        raise ManifestError(f"Expected the label {' or '.join(LABELS)}. Received: {wrong.iloc[0]!r}")
    if labelled.empty:
        raise ManifestError(_no_labels(videos, without_scores))
    has_groups = "group" in labelled and bool(labelled["group"].notna().any())
    labelled["is_fake"] = labelled["label"] == "fake"
    labelled["group"] = group_numbers(labelled)
    unlabelled = len(videos) - len(labelled)
    return Truth(labelled, unlabelled, tuple(without_scores), tuple(contradictory), has_groups)


def group_numbers(videos: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return a number for each video's group; a video without one is a group of its own."""
    groups = list(videos["group"]) if "group" in videos else [None] * len(videos)
    keys = [
        f"group {group}" if pd.notna(group) else f"video {video_id}"
        for group, video_id in zip(groups, videos["video_id"], strict=True)
    ]
    return np.unique(np.array(keys, dtype=object), return_inverse=True)[1].astype(np.int64)


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
