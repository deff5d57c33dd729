"""The choice of thresholds, held to brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.errors import RequestError
from dfd_core.evaluation.scored import called_fake
from dfd_core.evaluation.thresholds import ThresholdRule, choose_threshold, verdict_thresholds

items = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32, allow_subnormal=False)),
    ),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({label for label, _ in rows}) == 2)


def columns(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels), np.array(scores, np.float32)


RULES = ["eer", "youden", "fpr:0", "fpr:0.1", "fpr:0.5"]


def rates(labels, scores, threshold):
    calls = called_fake(scores, threshold)
    return calls[~labels].mean(), calls[labels].mean()


@given(items, st.sampled_from(RULES))
def test_no_threshold_is_better_by_the_rule_than_the_chosen_one(rows, rule: str) -> None:
    labels, scores = columns(rows)
    try:
        threshold = choose_threshold(labels, scores, ThresholdRule.parse(rule))
    except RequestError:
        top = scores.max()
        assert len(set(scores.tolist())) == 1 or (
            rule.startswith("fpr") and top == 1 and (scores[~labels] == 1).any()
        )
        return
    assert 0 <= threshold <= 1
    assert threshold == float(np.float32(threshold))
    fpr, tpr = rates(labels, scores, threshold)
    others = [rates(labels, scores, cut) for cut in scores if rule.startswith("fpr") or cut > scores.min()]
    if rule == "eer":
        assert abs(fpr - 1 + tpr) <= min(abs(a - 1 + b) for a, b in others) + 1e-12
    elif rule == "youden":
        assert tpr - fpr >= max(b - a for a, b in others) - 1e-12
    else:
        limit = float(rule.removeprefix("fpr:"))
        assert fpr <= limit
        assert tpr >= max((b for a, b in others if a <= limit), default=0.0)


def choose(rule, labels, scores):
    return choose_threshold([label == "F" for label in labels], scores, ThresholdRule.parse(rule))


def test_a_threshold_lies_halfway_between_the_scores_that_it_parts() -> None:
    for rule in ("eer", "youden", "fpr:0.01"):
        assert choose(rule, "RRFF", [0.125, 0.25, 0.75, 1.0]) == 0.5


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    # R at 0.25, F at 0.5, R at 0.75, F at 1: calling 1 or 3 fake gives TPR - FPR = 1/2, and most fakes at FPR 0 is one.
    assert choose("youden", "RFRF", [0.25, 0.5, 0.75, 1.0]) == 0.875
    assert choose("fpr:0.4", "RFRF", [0.25, 0.5, 0.75, 1.0]) == 0.875
    assert choose("fpr:0.5", "RFRF", [0.25, 0.5, 0.75, 1.0]) == 0.375
    # eer: calling two fake, FPR = FNR = 1/2
    assert choose("eer", "RFRF", [0.25, 0.5, 0.75, 1.0]) == 0.625


def test_of_equally_near_error_rates_the_smaller_are_taken() -> None:
    # R above two F of one score above R. Calling one fake: FPR 1/2, FNR 1. Calling three: FPR 1/2, FNR 0. Both 1/2 apart.
    assert choose("eer", "RFFR", [0.25, 0.5, 0.5, 0.75]) == 0.375


def test_neighbouring_floats_are_parted_exactly() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    assert np.float32(choose("youden", "RF", [low, high])) == high


def test_where_the_highest_score_is_a_reals_nothing_is_called_fake() -> None:
    assert choose("fpr:0.1", "FR", [0.25, 0.75]) == 0.875


@pytest.mark.parametrize(
    ("rule", "labels", "scores", "complaint"),
    [
        ("eer", "RR", [0.1, 0.2], "2 real, 0 fake"),
        ("youden", "RF", [0.5, 0.5], "1 different scores"),
        ("fpr:0.1", "FR", [0.5, 1.0], "1 of 1 reals have the score 1"),
    ],
)
def test_a_rule_that_cannot_choose_says_why(rule, labels, scores, complaint) -> None:
    with pytest.raises(RequestError, match=complaint):
        choose(rule, labels, scores)


def test_a_fixed_threshold_looks_at_nothing() -> None:
    assert choose_threshold([], [], ThresholdRule.parse("0.7")) == float(np.float32(0.7))


@pytest.mark.parametrize("text", ["0", "1", "0.25", "eer", "youden", "fpr:0.01", "fpr:0"])
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(ThresholdRule.parse(text)) == text


@pytest.mark.parametrize("text", ["", "1.5", "-0.1", "nan", "fpr", "fpr:", "fpr:1", "fpr:nan", "EER", "best"])
def test_anything_else_is_no_rule(text: str) -> None:
    with pytest.raises(RequestError, match="Expected a threshold"):
        ThresholdRule.parse(text)


@given(items, st.sampled_from([0.0, 0.02, 0.1, 0.4]))
def test_the_two_thresholds_keep_to_their_rate_and_no_nearer_ones_do(rows, rate: float) -> None:
    labels, scores = columns(rows)
    try:
        low, high = verdict_thresholds(labels, scores, rate)
    except RequestError:
        return
    assert 0 <= low <= high <= 1
    assert (scores[~labels] >= np.float32(high)).mean() <= rate
    assert (scores[labels] < np.float32(low)).mean() <= rate
    if low < high:  # called fake are as many fakes as the rate allows, and called real as many reals
        lower = scores[scores < np.float32(high)].max(initial=-1.0)
        if lower >= 0 and (scores[~labels] >= lower).mean() <= rate:
            assert (scores[labels] >= lower).sum() == (scores[labels] >= np.float32(high)).sum()


def test_classes_that_lie_apart_leave_nothing_uncertain() -> None:
    low, high = verdict_thresholds([False] * 9 + [True] * 9, [0.1] * 9 + [0.9] * 9, 0.02)
    assert low == high == pytest.approx(0.5)
    crossing = verdict_thresholds([False] * 4 + [True] * 4, [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9], 0.3)
    assert crossing[0] == crossing[1]
