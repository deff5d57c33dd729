"""The result of a training: calibration, thresholds and figures with their intervals."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from dfd_core.errors import RequestError
from dfd_core.evaluation.intervals import Bootstrap, Measured, measure
from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.thresholds import ThresholdRule, choose_threshold, verdict_thresholds
from dfd_core.model.calibration import Calibration, fit_calibration
from dfd_core.training.settings import HISTORY_FILENAME, TrainingSettings

FALLBACK_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """What was decided and measured on the validation faces.

    Attributes:
        calibration: None if none was asked for.
        threshold: Of the calibrated scores of videos.
        threshold_note: Why a rule could not be followed; None if each was.
        verdicts: The two thresholds of three verdicts; None if one was asked for, or the videos do not allow two.
        metrics: The card's `metrics`.
        measured: The same of videos, as values.
    """

    calibration: Calibration | None
    threshold: float
    threshold_note: str | None
    verdicts: tuple[float, float] | None
    metrics: dict[str, Any]
    measured: Measured


def judge(faces: pd.DataFrame, settings: TrainingSettings, *, bootstrap: Bootstrap) -> Judged:
    """Return calibration, threshold and figures.

    The calibration is fitted on faces, each video weighing the same, because it is applied to faces. The threshold is
    chosen on videos, because that is what gets a verdict: a frame's score is the highest of its faces', a video's the mean
    of its frames'.

    Args:
        faces: The validation faces: `video_id component frame_index is_fake p_raw`.
        settings: The rules.
        bootstrap: Of the intervals.
    """
    labels, raw = faces["is_fake"].to_numpy(), faces["p_raw"].to_numpy(np.float32)
    calibration = None
    if settings.calibration != "none":
        weight = 1 / faces.groupby("video_id")["p_raw"].transform("size").to_numpy()
        kind: Any = settings.calibration
        calibration = fit_calibration(kind, is_fake=labels, p_raw=raw, weight=weight)
    p_fake = raw if calibration is None else calibration.apply(raw)
    videos, videos_raw = (_videos(faces.assign(p_fake=values)) for values in (p_fake, raw))
    threshold, note = _threshold(videos, ThresholdRule.parse(settings.threshold))
    face_items = Scored.of(labels, p_fake, faces["component"])
    measured = measure(videos, threshold=threshold, bootstrap=bootstrap)
    uncalibrated = _as_json(measure(videos_raw, threshold=threshold, bootstrap=bootstrap))["figures"]
    metrics = {
        "of": "validation groups, on which the epoch, the calibration and the threshold were chosen too: "
        "so they are too good for other videos",
        "bootstrap": {**asdict(bootstrap), "unit": "group"},
        "video": _as_json(measured),
        "face": _as_json(measure(face_items, threshold=threshold, bootstrap=bootstrap)),
        "video_uncalibrated": {name: uncalibrated[name] for name in ("log_loss", "brier", "ece")},
    }
    verdicts, problem = _verdicts(videos, settings.uncertain_rate)
    return Judged(calibration, threshold, note or problem, verdicts, metrics, measured)


def _videos(faces: pd.DataFrame) -> Scored:
    """Return one item a video: the mean of its frames, each the highest of its faces."""
    alone = -1 - np.arange(len(faces))  # a face without a frame counts as a frame
    frame = faces["frame_index"].to_numpy(np.float64, na_value=np.nan)
    frame = np.where(np.isnan(frame), alone, frame)
    frames = faces.assign(frame=frame).groupby(["video_id", "frame"], sort=True)["p_fake"].max()
    scores = frames.groupby("video_id").mean()
    facts = faces.drop_duplicates("video_id").set_index("video_id").loc[scores.index]
    return Scored.of(facts["is_fake"], scores, facts["component"])


def _threshold(videos: Scored, rule: ThresholdRule) -> tuple[float, str | None]:
    try:
        return choose_threshold(videos.is_fake, videos.p_fake, rule), None
    except RequestError as error:
        return FALLBACK_THRESHOLD, str(error)


def _verdicts(videos: Scored, rate: float | None) -> tuple[tuple[float, float] | None, str | None]:
    if rate is None:
        return None, None
    try:
        return verdict_thresholds(videos.is_fake, videos.p_fake, rate), None
    except RequestError as error:
        return None, f"no second threshold: {error}"


def verdict_rule(rate: float) -> str:
    """Return how the two thresholds were chosen, for the card.

    >>> verdict_rule(0.02)
    'at most 2 % of the real validation videos are called fake, and at most 2 % of the fake ones real'
    """
    share = f"at most {100 * rate:g} %"
    return f"{share} of the real validation videos are called fake, and {share} of the fake ones real"


def _as_json(measured: Measured) -> dict[str, Any]:
    figures = {
        name: {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "notes": [note.kind for note in found.notes],
        }
        for name, found in measured.figures.items()
    }
    return {
        "num_real": measured.num_real,
        "num_fake": measured.num_fake,
        "num_groups": measured.num_groups,
        "confusion": asdict(measured.confusion),
        "figures": figures,
    }


def side_counts(faces: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of faces and videos of one side by label, and of its groups."""
    videos = faces.drop_duplicates("video_id")
    return {
        "groups": int(faces["component"].nunique()),
        "videos_real": int((~videos["is_fake"]).sum()),
        "videos_fake": int(videos["is_fake"].sum()),
        "faces_real": int((~faces["is_fake"]).sum()),
        "faces_fake": int(faces["is_fake"].sum()),
    }


def blend_facts(faces: pd.DataFrame, self_blend: float) -> dict[str, Any]:
    """Return how many real training faces are blended by their landmarks, and how many in an ellipse."""
    real = faces[~faces["is_fake"]]
    outlined = int(real["has_outline"].sum())
    return {
        "probability": self_blend,
        "reals_with_landmarks": outlined,
        "reals_blended_in_an_ellipse": len(real) - outlined,
    }


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, at 150 dots per inch on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def read_history(folder: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Return the `history.csv` in `folder`: one mapping for each epoch."""
    with open(Path(folder) / HISTORY_FILENAME, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def best_epoch(history: list[dict[str, float]]) -> int:
    """Return the epoch, from 1, with the lowest `val_loss`; of equal ones the first.

    >>> best_epoch([{"val_loss": 0.7}, {"val_loss": 0.5}, {"val_loss": 0.5}])
    2
    """
    losses: npt.NDArray[np.float64] = np.array([row["val_loss"] for row in history])
    return int(np.nanargmin(losses)) + 1


def diverged_epoch(history: list[dict[str, float]]) -> int | None:
    """Return the first epoch, from 1, in which the scores were not finite; None if there is none.

    >>> diverged_epoch([{"val_loss": 0.7}, {"val_loss": math.nan}])
    2
    """
    return next((epoch for epoch, row in enumerate(history, start=1) if math.isnan(row["val_loss"])), None)
