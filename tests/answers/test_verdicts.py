from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dfd_core.answers.verdicts import REASONS, VerdictRule, with_verdicts
from dfd_core.model.card import ModelCard
from dfd_core.model.quality_limits import QualityLimits

LIMITS = QualityLimits(
    min_frames=3, min_side_px=80, min_sharpness=0.05, max_blockiness=1.4, min_bits_per_pixel=0.01
)
GOOD = {"num_scored_frames": 9, "side_px": 200.0, "sharpness": 0.1, "blockiness": 1.0, "bits_per_pixel": 0.1}


def videos(*rows):
    types = {"p_fake": pa.float32(), "num_scored_frames": pa.int64()}
    names = ["p_fake", *GOOD]
    return pa.table(
        {
            name: pa.array([{**GOOD, **row}[name] for row in rows], types.get(name, pa.float32()))
            for name in names
        }
    )


def told(rule, *rows):
    table = with_verdicts(videos(*rows), rule)
    return list(zip(table["verdict"].to_pylist(), table["uncertain_reason"].to_pylist(), strict=True))


def test_two_thresholds_make_three_verdicts():
    rule = VerdictRule(0.2, 0.9)

    assert told(rule, *({"p_fake": p} for p in (0.0, 0.19, 0.2, 0.5, 0.89, 0.9, 1.0))) == [
        ("real", None),
        ("real", None),
        *[("uncertain", "between_thresholds")] * 3,
        ("fake", None),
        ("fake", None),
    ]


def test_one_threshold_makes_two_verdicts_whatever_the_quality():
    poor = {
        "num_scored_frames": 1,
        "side_px": 5.0,
        "sharpness": 0.0,
        "blockiness": 9.0,
        "bits_per_pixel": 0.0,
    }

    assert told(VerdictRule.single(0.5), {"p_fake": 0.5, **poor}, {"p_fake": 0.4999, **poor}) == [
        ("fake", None),
        ("real", None),
    ]


def test_scores_are_compared_as_float32():
    assert told(VerdictRule(0.1, 0.7), {"p_fake": np.float32(0.7)}) == [("fake", None)]


@pytest.mark.parametrize(
    ("poor", "reason"),
    [
        ({"num_scored_frames": 2}, "few_frames"),
        ({"side_px": 79.0}, "small_faces"),
        ({"sharpness": 0.04}, "blurred"),
        ({"blockiness": 1.5}, "compressed"),
        ({"bits_per_pixel": 0.009}, "compressed"),
    ],
)
@pytest.mark.parametrize("p_fake", [0.0, 0.5, 1.0])
def test_evidence_beyond_a_limit_carries_no_verdict(poor, reason, p_fake):
    assert told(VerdictRule(0.2, 0.9, LIMITS), {"p_fake": p_fake, **poor}) == [("uncertain", reason)]


def test_the_first_of_several_reasons_is_given():
    rows = [{"p_fake": 0.5}]
    for poor in ({"blockiness": 2.0}, {"sharpness": 0.0}, {"side_px": 1.0}, {"num_scored_frames": 1}):
        rows.append({**rows[-1], **poor})

    received = [reason for _, reason in told(VerdictRule(0.2, 0.9, LIMITS), *rows)]

    assert received == list(reversed(REASONS))


def test_evidence_at_a_limit_and_evidence_that_is_not_known_carry_one():
    at = {"num_scored_frames": 3, "side_px": 80.0, "sharpness": np.float32(0.0500001), "blockiness": 1.39}
    unknown = dict.fromkeys(GOOD)

    assert told(VerdictRule(0.2, 0.9, LIMITS), {"p_fake": 0.95, **at}, {"p_fake": 0.1, **unknown}) == [
        ("fake", None),
        ("real", None),
    ]


def test_a_video_without_a_score_has_no_verdict_and_no_reason():
    assert told(VerdictRule(0.2, 0.9, LIMITS), {"p_fake": None, "num_scored_frames": 0}) == [(None, None)]


def test_columns_that_are_not_there_limit_nothing():
    table = with_verdicts(pa.table({"p_fake": pa.array([0.95], pa.float32())}), VerdictRule(0.2, 0.9, LIMITS))

    assert table["verdict"].to_pylist() == ["fake"]


def test_a_card_with_one_threshold_gives_its_rule_and_a_card_with_two_theirs():
    assert VerdictRule.of_card(ModelCard("m", threshold=0.3)) == VerdictRule.single(0.3)
    card = ModelCard("m", threshold_low=0.2, threshold_high=0.9, limits=LIMITS.to_card())
    assert VerdictRule.of_card(card) == VerdictRule(0.2, 0.9, LIMITS)


@pytest.mark.parametrize("edges", [(0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_thresholds_out_of_order_are_a_programmers_mistake(edges):
    with pytest.raises(ValueError, match="Expected 0 <= low <= high <= 1"):
        VerdictRule(*edges)
