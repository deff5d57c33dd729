from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.verdict_counts import risk_coverage, verdict_counts


def labelled(rows):
    frame = pd.DataFrame(rows, columns=["label", "verdict", "uncertain_reason", "dataset"])
    return frame.assign(is_fake=frame["label"] == "fake")


ROWS = [
    ("real", "real", None, "a"),
    ("real", "uncertain", "compressed", "a"),
    ("real", "fake", None, "b"),
    ("fake", "fake", None, "a"),
    ("fake", "fake", None, "b"),
    ("fake", "uncertain", "few_frames", "b"),
    ("fake", "uncertain", "compressed", "b"),
    ("fake", None, None, "b"),
]


def test_verdicts_are_counted_by_label_for_all_videos_and_each_part():
    whole, *parts = verdict_counts(labelled(ROWS))

    assert (whole.by, whole.value) == (None, None)
    assert whole.counts == {
        "real": {"real": 1, "uncertain": 1, "fake": 1},
        "fake": {"real": 0, "uncertain": 2, "fake": 2},
    }
    assert whole.reasons == {"few_frames": 1, "compressed": 2}
    assert whole.share("fake", "uncertain") == 0.5
    assert {part.value: part.counts["real"]["fake"] for part in parts} == {"a": 0, "b": 1}


def test_a_run_without_verdicts_has_no_counts():
    assert verdict_counts(labelled([("real", None, None, "a")])) == ()
    assert verdict_counts(labelled(ROWS).drop(columns="verdict")) == ()


def test_a_label_without_videos_has_no_share():
    (whole, *_) = verdict_counts(labelled(ROWS[:3]))

    assert whole.share("fake", "real") is None


def reference(is_fake, p_fake, threshold):
    """Judge the k surest items, for every k that does not part equals, one by one."""
    way = [
        (p - threshold) / (1 - threshold) if p >= threshold else (threshold - p) / threshold for p in p_fake
    ]
    points = []
    for least in sorted(set(way), reverse=True):
        chosen = [position for position, value in enumerate(way) if value >= least]
        wrong = sum((p_fake[position] >= threshold) != is_fake[position] for position in chosen)
        points.append((len(chosen) / len(way), wrong / len(chosen)))
    return points


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9])
def test_the_curve_equals_judging_the_surest_one_by_one(threshold):
    rng = np.random.default_rng(1)
    is_fake = rng.random(60) < 0.5
    p_fake = np.round(rng.random(60), 1).astype(np.float32)  # with equals

    curve = risk_coverage(Scored.of(is_fake, p_fake, np.arange(60)), threshold)

    expected = reference(is_fake, p_fake.astype(np.float64), float(np.float32(threshold)))
    np.testing.assert_allclose(np.stack([curve.coverage, curve.risk], 1), expected)
    assert curve.coverage[-1] == 1
    assert curve.risk_at(1.0) == pytest.approx(expected[-1][1])


def test_without_videos_there_is_no_risk():
    empty = Scored.of(np.zeros(0, bool), np.zeros(0, np.float32), np.zeros(0, int))

    assert risk_coverage(empty, 0.5).risk_at(0.5) is None
