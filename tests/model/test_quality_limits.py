from __future__ import annotations

import pytest

from dfd_core.errors import ModelError
from dfd_core.model.card import ModelCard, load_card, write_card
from dfd_core.model.quality_limits import QualityLimits
from dfd_core.model.source import resolve_model


def test_a_card_with_two_thresholds_and_limits_reads_back_the_same(tmp_path):
    card = ModelCard(
        "m", threshold_low=0.1, threshold_high=0.9, limits={"min_frames": 3}, verdict_rule="by hand"
    )
    write_card(card, tmp_path)

    assert load_card(tmp_path) == card


@pytest.mark.parametrize(
    "limits",
    [
        {"min_frames": 10**400},
        {"min_sharpness": -1},
        {"max_blockiness": float("inf")},
        {"min_side_px": True},
        {"size": 3},
        [],
    ],
)
def test_a_card_with_an_unusable_limit_is_refused(limits):
    with pytest.raises(ModelError, match="limits"):
        ModelCard("m", limits=limits)


@pytest.mark.parametrize("edges", [(0.5, None), (None, 0.5), (0.6, 0.5), (-0.1, 0.5), ("0.1", 0.5)])
def test_a_card_with_unusable_thresholds_is_refused(edges):
    with pytest.raises(ModelError, match="threshold_low"):
        ModelCard("m", threshold_low=edges[0], threshold_high=edges[1])


def test_raw_scores_get_the_thresholds_that_say_the_same():
    calibration = {"kind": "logistic", "temperature": 1.0, "bias": -1.0}
    card = ModelCard("m", threshold_low=0.2, threshold_high=0.9, calibration=calibration)

    raw = card.uncalibrated()

    assert raw.threshold_low == pytest.approx(0.4046, abs=1e-4)  # sigmoid(logit(0.2) + 1)
    assert raw.threshold_high == pytest.approx(0.9607, abs=1e-4)


def test_the_default_detector_has_two_thresholds_and_limits():
    card = resolve_model("default").card

    assert 0 < card.threshold_low < 0.5 < card.threshold_high < 1
    assert QualityLimits.from_card(card.limits).max_blockiness is not None
