"""The figures, held to scikit-learn, to brute force and to a table worked out by hand."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.metrics import equal_error_rate, figures
from dfd_core.evaluation.scored import Confusion, Scored, called_fake, confusion
from dfd_core.evaluation.weighted import weighted_figures

# Ten items, falling by score, worked out by hand. F is fake, R is real; the threshold is 0.5.
#
#    p_fake   in 16ths  label  called   fakes and reals so far (TP, FP)
#    0.9375   15        F      fake     1 0
#    0.875    14        F      fake     2 0
#    0.75     12        R      fake     3 1  (with the next: the same score)
#    0.75     12        F      fake
#    0.625    10        F      fake     4 1
#    0.5       8        R      fake     4 2  (at the threshold is called fake)
#    0.375     6        F      real     5 2
#    0.25      4        R      real     5 3
#    0.125     2        F      real     6 3
#    0.0625    1        R      real     6 4
SIXTEENTHS = [15, 14, 12, 12, 10, 8, 6, 4, 2, 1]
IS_FAKE = [True, True, False, True, True, False, True, False, True, False]
TABLE = Scored.of(IS_FAKE, np.array(SIXTEENTHS) / 16)

# confusion: fakes called fake 4, fakes called real 2, reals called fake 2, reals called real 2
BY_HAND = {
    "accuracy": 6 / 10,
    "balanced_accuracy": (4 / 6 + 2 / 4) / 2,
    # Of the 6 * 4 pairs the fake is higher: 2 and a tie for the real at 0.75, 4 at 0.5, 5 at 0.25, 6 at 0.0625.
    "roc_auc": (2.5 + 4 + 5 + 6) / 24,
    # Precision where each of the 6 fakes is reached: 1/1 2/2 3/4 4/5 5/7 6/9.
    "average_precision": (1 + 1 + 3 / 4 + 4 / 5 + 5 / 7 + 6 / 9) / 6,
    # From (FPR 1/4, TPR 4/6) the curve goes flat to (2/4, 4/6); there 1 - TPR is 1/3, so it is met at FPR 1/3.
    "eer": 1 / 3,
    # Before the first real, 2 of 6 fakes. 4 reals allow no false alarm at 1 % or at 0.1 %.
    "tpr_at_fpr_0.01": 2 / 6,
    "tpr_at_fpr_0.001": 2 / 6,
    # Probabilities of the truth: 15 14 4 12 10 8 6 12 2 15 sixteenths, that is 15/16 7/8 1/4 3/4 5/8 1/2 3/8 3/4 1/8
    # 15/16; their product is 212625 / 2^27.
    "log_loss": (27 * math.log(2) - math.log(212625)) / 10,
    # Distances from the truth: 1 2 12 4 6 8 10 4 14 1 sixteenths; their squares sum to 578.
    "brier": 578 / 256 / 10,
    # Only the two at 0.75 share a bin: 12 - 4 = 8. Alone in theirs: 1 2 6 8 10 4 14 1. In all 54 sixteenths.
    "ece": 54 / 16 / 10,
}


def test_ten_rows_worked_out_by_hand() -> None:
    assert figures(TABLE, 0.5) == pytest.approx(BY_HAND, abs=1e-12)
    assert BY_HAND.keys() == DEFINITIONS.keys()
    assert confusion(TABLE, 0.5) == Confusion(
        real_called_real=2, real_called_fake=2, fake_called_real=2, fake_called_fake=4
    )


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(10)
    shuffled = Scored.of(TABLE.is_fake[order], TABLE.p_fake[order])
    assert figures(shuffled, 0.5) == pytest.approx(BY_HAND, abs=1e-12)


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


@settings(max_examples=40)
@given(items, st.floats(0, 1, width=32))
def test_figures_equal_scikit_learns(rows, threshold: float) -> None:
    labels, scores = columns(rows)
    found = figures(Scored.of(labels, scores), threshold)
    calls = scores >= np.float32(threshold)
    wide = scores.astype(np.float64)
    safe = np.clip(wide, 2.0**-23, 1 - 2.0**-23)
    expected = {
        "accuracy": sk.accuracy_score(labels, calls),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, calls),
        "roc_auc": sk.roc_auc_score(labels, wide),
        "average_precision": sk.average_precision_score(labels, wide),
        "log_loss": sk.log_loss(labels, safe),
        "brier": sk.brier_score_loss(labels, wide),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(items)
def test_the_equal_error_rate_equals_brute_force(rows) -> None:
    """The curve, from nothing but counting, cut into small steps; the step where FPR and FNR are nearest."""
    labels, scores = columns(rows)
    points = [(0.0, 0.0)]
    for cut in sorted(set(scores.tolist()), reverse=True):
        called = scores >= np.float32(cut)
        points.append((called[~labels].mean(), called[labels].mean()))
    steps = np.linspace(0, 1, 251)
    fpr = np.concatenate([a[0] + steps * (b[0] - a[0]) for a, b in pairwise(points)])
    tpr = np.concatenate([a[1] + steps * (b[1] - a[1]) for a, b in pairwise(points)])
    nearest = np.argmin(np.abs(fpr - (1 - tpr)))
    found = figures(Scored.of(labels, scores), 0.5)["eer"]
    assert found == pytest.approx((fpr[nearest] + 1 - tpr[nearest]) / 2, abs=4e-3)


@settings(max_examples=30)
@given(items)
def test_tpr_at_an_fpr_and_the_calibration_error_equal_a_plain_loop(rows) -> None:
    labels, scores = columns(rows)
    found = figures(Scored.of(labels, scores), 0.5)
    for name, target in (("tpr_at_fpr_0.01", 0.01), ("tpr_at_fpr_0.001", 0.001)):
        best = 0.0
        for cut in scores:
            if (scores[~labels] >= cut).mean() <= target:
                best = max(best, (scores[labels] >= cut).mean())
        assert found[name] == pytest.approx(best)
    error = 0.0
    for number in range(15):
        inside = [
            row
            for row in zip(labels, scores.astype(float), strict=True)
            if min(int(row[1] * 15), 14) == number
        ]
        if inside:
            share = sum(label for label, _ in inside) / len(inside)
            said = sum(score for _, score in inside) / len(inside)
            error += len(inside) / len(rows) * abs(share - said)
    assert found["ece"] == pytest.approx(error, abs=1e-9)


def test_a_false_positive_rate_of_exactly_the_target_is_within_it() -> None:
    # 1 of 100 reals above every fake.
    scored = Scored.of([True] * 5 + [False] * 100, [0.5] * 5 + [0.75] + [0.25] * 99)
    found = figures(scored, 0.5)
    assert (found["tpr_at_fpr_0.01"], found["tpr_at_fpr_0.001"]) == (1, 0)
    weighted = weighted_figures(scored, 0.5, np.ones((1, scored.num_groups)))
    assert (weighted["tpr_at_fpr_0.01"], weighted["tpr_at_fpr_0.001"]) == (1, 0)


def test_one_class_has_only_the_figures_that_need_no_other() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures(Scored.of([True, True], [0.5, 0.25]), 0.5)
    assert found == pytest.approx(
        {
            "accuracy": 0.5,
            "log_loss": 1.5 * math.log(2),
            "brier": (0.25 + 0.5625) / 2,
            "ece": (0.5 + 0.75) / 2,
        }
    )
    assert figures(Scored.of([], []), 0.5) == {}


def test_a_wrong_certainty_costs_a_finite_log_loss() -> None:
    assert figures(Scored.of([False, True], [1.0, 0.0]), 0.5)["log_loss"] == pytest.approx(23 * math.log(2))


def test_a_verdict_compares_as_float32_as_the_tables_do() -> None:
    assert called_fake(np.array([0.7], np.float32), 0.7).all()
    assert confusion(Scored.of([True], [0.7]), 0.7).fake_called_fake == 1


@pytest.mark.parametrize(
    ("labels", "scores", "groups"),
    [
        ([True], [1.5], None),
        ([True], [float("nan")], None),
        ([True], [0.5, 0.5], None),
        ([True], [0.5], ["a", "b"]),
    ],
)
def test_items_that_make_no_sense_are_refused(labels, scores, groups) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Scored.of(labels, scores, groups)


def test_perfect_and_reversed_scores() -> None:
    labels = [False, False, True, True]
    right, wrong = (figures(Scored.of(labels, scores), 0.5) for scores in ([0, 0, 1, 1], [1, 1, 0, 0]))
    for name, definition in DEFINITIONS.items():
        assert right[name] == pytest.approx(definition.best, abs=1e-6), name
        assert wrong[name] != pytest.approx(definition.best, abs=0.1), name
    assert (wrong["roc_auc"], wrong["eer"]) == (0, 1)


def test_the_equal_error_rate_of_chance_is_a_half() -> None:
    assert equal_error_rate(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
