import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dfd_core.evaluation import plots
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.evaluation.thresholds import ThresholdRule, choose_threshold, verdict_thresholds
from dfd_core.training.report import judge, side_counts, to_png
from dfd_core.training.settings import TrainingSettings

BOOTSTRAP = Bootstrap(resamples=50)


def faces(count=120, seed=0, frames=True):
    """Two faces in each of two frames of each video, scores too extreme by a factor of 3."""
    rng = np.random.default_rng(seed)
    video = np.arange(count) // 4
    logits = np.where(video % 2, 1.0, -1.0) + rng.normal(0, 1.5, count)
    return pd.DataFrame(
        {
            "video_id": [f"v{number}" for number in video],
            "component": video // 2,
            "frame_index": [10 * (i % 4 // 2) if frames else None for i in range(count)],
            "is_fake": video % 2 == 1,
            "p_raw": (1 / (1 + np.exp(-3 * logits))).astype(np.float32),
        }
    )


def video_scores(table, p_fake):
    """The scores of videos by hand: mean of the frames' highest faces."""
    return np.array(
        [
            np.mean([p_fake[4 * v : 4 * v + 2].max(), p_fake[4 * v + 2 : 4 * v + 4].max()])
            for v in range(len(table) // 4)
        ]
    )


def test_the_threshold_is_chosen_on_videos_from_calibrated_scores():
    table = faces()
    judged = judge(table, TrainingSettings(), bootstrap=BOOTSTRAP)
    assert judged.calibration.temperature > 1.2
    scores = video_scores(table, judged.calibration.apply(table["p_raw"].to_numpy()))
    labels = np.arange(30) % 2 == 1
    assert judged.threshold == choose_threshold(labels, scores.astype(np.float32), ThresholdRule("eer"))
    assert judged.measured.figures["roc_auc"].value == pytest.approx(roc_auc_score(labels, scores))
    raw = log_loss(labels, np.clip(video_scores(table, table["p_raw"].to_numpy()), 1e-7, 1 - 1e-7))
    assert judged.metrics["video_uncalibrated"]["log_loss"]["value"] == pytest.approx(raw, rel=1e-5)
    assert judged.metrics["video"]["figures"]["roc_auc"]["low"] is not None
    assert judged.metrics["face"]["num_fake"] == 60


def test_faces_without_frames_count_one_by_one():
    table = faces(frames=False)
    judged = judge(table, TrainingSettings(calibration="none"), bootstrap=BOOTSTRAP)
    assert judged.calibration is None
    scores = table["p_raw"].to_numpy().reshape(-1, 4).astype(float).mean(axis=1)
    assert judged.measured.figures["roc_auc"].value == pytest.approx(
        roc_auc_score(np.arange(30) % 2 == 1, scores)
    )


def test_a_long_video_weighs_no_more_in_the_calibration_than_a_short_one():
    table = faces()
    long = pd.concat([table, *[table[table["video_id"] == "v1"]] * 30])
    once, often = (
        judge(t, TrainingSettings(), bootstrap=BOOTSTRAP).calibration.temperature for t in (table, long)
    )
    assert often == pytest.approx(once, rel=1e-3)


def test_a_model_that_says_the_same_of_everything_gets_a_threshold_and_a_note():
    judged = judge(faces().assign(p_raw=np.float32(0.5)), TrainingSettings(), bootstrap=BOOTSTRAP)
    assert judged.threshold == 0.5
    assert "different scores" in judged.threshold_note


def test_a_side_is_counted():
    assert side_counts(faces(16)) == {
        "groups": 2,
        "videos_real": 2,
        "videos_fake": 2,
        "faces_real": 8,
        "faces_fake": 8,
    }


def test_the_curves_are_a_picture_with_every_series():
    history = [{"loss": 0.7, "val_loss": 0.6, "accuracy": 0.5, "val_accuracy": 0.6, "val_auc": 0.7}] * 3
    figure = plots.training_curves(history, best_epoch=2)
    lines = [
        line.get_label()
        for axes in figure.axes
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    ]
    assert lines == [
        "training",
        "validation",
        "training",
        "validation",
        "validation ROC AUC",
    ]
    assert to_png(figure).startswith(b"\x89PNG")


def test_two_thresholds_are_those_of_the_calibrated_videos_and_none_where_they_cannot_be():
    table = faces(400)
    judged = judge(table, TrainingSettings(uncertain_rate=0.1), bootstrap=BOOTSTRAP)
    scores = video_scores(table, judged.calibration.apply(table["p_raw"].to_numpy())).astype(np.float32)
    labels = np.arange(100) % 2 == 1
    assert judged.verdicts == verdict_thresholds(labels, scores, 0.1)
    assert judge(table, TrainingSettings(), bootstrap=BOOTSTRAP).verdicts is None
    certain = table.assign(p_raw=np.where(table["is_fake"], np.float32(0.5), np.float32(1.0)))
    settings = TrainingSettings(uncertain_rate=0.0, calibration="none")
    refused = judge(certain, settings, bootstrap=BOOTSTRAP)
    assert refused.verdicts is None
    assert "no second threshold" in refused.threshold_note or "No threshold" in refused.threshold_note
