"""The bootstrap: reweighting held to scikit-learn, intervals to the truth of simulations, gaps to their reasons."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from dfd_core.errors import RequestError
from dfd_core.evaluation import intervals
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.intervals import MIN_GROUPS, Bootstrap, measure
from dfd_core.evaluation.metrics import figures
from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.weighted import weighted_figures


def simulated(rng, *, groups: int, faces: int, distance: float, spread: float) -> Scored:
    """Return faces of real and fake videos whose faces resemble one another; the ROC AUC is known, see `true_auc`."""
    is_fake = np.repeat(np.arange(groups) % 2 == 1, faces)
    group = np.repeat(np.arange(groups), faces)
    z = distance * is_fake + rng.normal(0, spread, groups)[group] + rng.normal(0, 1, groups * faces)
    return Scored.of(is_fake, 1 / (1 + np.exp(-z)), group)


def true_auc(*, distance: float, spread: float) -> float:
    """Return P(fake > real) for normal scores: the difference is normal with variance 2 (spread^2 + 1)."""
    return 0.5 * (1 + math.erf(distance / math.sqrt(2 * (spread**2 + 1)) / math.sqrt(2)))


weightings = st.integers(5, 30).flatmap(
    lambda size: st.tuples(
        st.lists(st.booleans(), min_size=size, max_size=size),
        st.lists(st.sampled_from(np.linspace(0, 1, 9).tolist()), min_size=size, max_size=size),
        st.lists(st.integers(0, 6), min_size=size, max_size=size),
        st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4),
    )
)


@settings(max_examples=25)
@given(weightings, st.sampled_from([0.0, 0.375, 0.5, 1.0]))
def test_reweighted_figures_equal_scikit_learns_with_sample_weight(case, threshold: float) -> None:
    labels, scores, groups, weights = case
    scored = Scored.of(labels, scores, groups)
    by_group = np.array(weights, float)[:, : scored.num_groups]
    by_group[:, 0] += by_group.sum(axis=1) == 0
    found = weighted_figures(scored, threshold, by_group)
    assert found.keys() == DEFINITIONS.keys()
    for number, weight in enumerate(by_group[:, scored.group]):
        mine = {name: values[number] for name, values in found.items()}
        kept = weight > 0
        y, p, w = scored.is_fake[kept], scored.p_fake[kept].astype(float), weight[kept]
        calls = p >= threshold
        safe = np.clip(p, 2.0**-23, 1 - 2.0**-23)
        expected = {
            "accuracy": sk.accuracy_score(y, calls, sample_weight=w),
            "log_loss": sk.log_loss(y, safe, sample_weight=w, labels=[False, True]),
            "brier": sk.brier_score_loss(y, p, sample_weight=w, labels=[False, True], pos_label=True),
        }
        both, ranked = len(set(y.tolist())) == 2, len(set(p.tolist())) > 1
        if both:
            expected["balanced_accuracy"] = sk.balanced_accuracy_score(y, calls, sample_weight=w)
        if both and ranked:
            expected["roc_auc"] = sk.roc_auc_score(y, p, sample_weight=w)
            expected["average_precision"] = sk.average_precision_score(y, p, sample_weight=w)
        assert {name: mine[name] for name in expected} == pytest.approx(expected, abs=1e-9)
        defined = {name for name, value in mine.items() if not math.isnan(value)}
        assert defined == {
            name
            for name, definition in DEFINITIONS.items()
            if (both or not definition.compares_classes) and (ranked or not definition.ranks)
        }
        # A weight is a repetition: every figure, also those that scikit-learn does not have.
        repeated = figures(Scored.of(np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int))), threshold)
        assert {name: mine[name] for name in defined} == pytest.approx(
            {name: repeated[name] for name in defined}, abs=1e-9
        )


def test_the_value_is_the_figure_and_lies_in_its_interval() -> None:
    scored = simulated(np.random.default_rng(1), groups=60, faces=5, distance=1.5, spread=0.5)
    measured = measure(scored, threshold=0.6, bootstrap=Bootstrap(300))
    assert list(measured.figures) == list(DEFINITIONS)
    assert {name: found.value for name, found in measured.figures.items()} == figures(scored, 0.6)
    assert (measured.num_real, measured.num_fake, measured.num_groups) == (150, 150, 60)
    for name, found in measured.figures.items():
        assert found.low is not None and found.high is not None, name
        assert 0 <= found.low < found.high, name
        # The calibration error of a resample is biased upwards, as its documentation says.
        assert found.low <= found.value <= found.high or name == "ece", name


def test_intervals_hold_the_truth_at_about_the_nominal_rate_and_only_by_group() -> None:
    rng = np.random.default_rng(8)
    world = {"distance": 1.5, "spread": 1.5}
    truth = true_auc(**world)
    held = alone = 0

    def holds(items: Scored) -> bool:
        found = measure(items, threshold=0.5, bootstrap=Bootstrap(100)).figures["roc_auc"]
        return found.low <= truth <= found.high

    for number in range(80):
        scored = simulated(rng, groups=60, faces=6, **world)
        held += holds(scored)
        if number < 30:
            alone += holds(Scored.of(scored.is_fake, scored.p_fake))
    assert 71 <= held <= 80
    assert alone < 23  # faces of a video are not independent, and taking them for it promises too much


def test_the_same_seed_gives_the_same_intervals_whatever_the_rows_order_and_the_memory(monkeypatch) -> None:
    scored = simulated(np.random.default_rng(2), groups=20, faces=3, distance=1, spread=0.3)
    order = np.random.default_rng(3).permutation(scored.num_items)
    shuffled = Scored.of(scored.is_fake[order], scored.p_fake[order], scored.group[order])
    first = measure(scored, threshold=0.5, bootstrap=Bootstrap(100, seed=4))
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 500)
    second = measure(shuffled, threshold=0.5, bootstrap=Bootstrap(100, seed=4))
    other = measure(scored, threshold=0.5, bootstrap=Bootstrap(100, seed=5))
    for name, found in first.figures.items():
        assert (second.figures[name].low, second.figures[name].high) == pytest.approx(
            (found.low, found.high)
        ), name
    assert other.figures["roc_auc"].low != first.figures["roc_auc"].low


def kinds(scored: Scored, name: str = "roc_auc"):
    found = measure(scored, threshold=0.5, bootstrap=Bootstrap(100)).figures[name]
    return found, [note.kind for note in found.notes]


def alternating(count: int) -> list[bool]:
    return [number % 2 == 1 for number in range(count)]


def test_what_the_items_do_not_define_is_none_with_a_reason() -> None:
    scores = np.linspace(0, 1, 8)
    ranks = {name for name, definition in DEFINITIONS.items() if definition.ranks}
    compares = {name for name, definition in DEFINITIONS.items() if definition.compares_classes}
    for scored, kind, names in (
        (Scored.of([True] * 8, scores), "one_class", compares),
        (Scored.of(alternating(8), [0.5] * 8), "equal_scores", ranks),
        (Scored.of([True, False, True], [0.1, 0.2, 0.3]), "too_few_items", set(DEFINITIONS)),
        (Scored.of([], []), "too_few_items", set(DEFINITIONS)),
    ):
        measured = measure(scored, threshold=0.5, bootstrap=Bootstrap(50))
        for name, found in measured.figures.items():
            assert (found.value is None) == (name in names), (kind, name)
            if found.value is None:
                assert (found.low, found.high) == (None, None)
                assert [note.kind for note in found.notes] == [kind]


def test_one_group_or_few_give_a_value_and_no_interval() -> None:
    for count in (1, MIN_GROUPS - 1):
        found, notes = kinds(Scored.of(alternating(12), np.linspace(0, 1, 12), np.arange(12) % count))
        assert found.value is not None
        assert (found.low, notes) == (None, ["too_few_groups"])
    assert (
        kinds(Scored.of(alternating(12), np.linspace(0, 1, 12), np.arange(12) % MIN_GROUPS))[0].low
        is not None
    )


def test_resamples_that_often_lack_a_class_give_no_interval() -> None:
    # One real in ten groups: a resample misses it with probability 0.9^10 = 35 %.
    found, notes = kinds(Scored.of([False] + [True] * 9, np.linspace(0, 1, 10)))
    assert found.value == 1.0
    assert (found.low, notes) == (None, ["unstable"])


def test_an_interval_without_width_says_that_it_is_no_certainty() -> None:
    found, notes = kinds(Scored.of([False] * 10 + [True] * 10, np.linspace(0, 1, 20)))
    assert (found.value, found.low, found.high, notes) == (1.0, 1.0, 1.0, ["zero_width"])


def test_a_false_positive_rate_that_the_reals_cannot_resolve_is_flagged() -> None:
    rng = np.random.default_rng(0)
    for reals, flagged in ((99, ["0.01", "0.001"]), (100, ["0.001"]), (999, ["0.001"]), (1000, [])):
        scored = Scored.of([False] * reals + [True] * 50, rng.random(reals + 50))
        measured = measure(scored, threshold=0.5, bootstrap=Bootstrap(20))
        for rate in ("0.01", "0.001"):
            found = measured.figures[f"tpr_at_fpr_{rate}"]
            assert found.value is not None
            assert ("not_resolvable" in [note.kind for note in found.notes]) == (rate in flagged)


@pytest.mark.parametrize("arguments", [(0,), (10, -1), (10, 0, 1.0)])
def test_a_bootstrap_that_makes_no_sense_is_refused(arguments) -> None:
    with pytest.raises(RequestError, match="Expected resamples"):
        Bootstrap(*arguments)


def test_a_thousand_resamples_of_ten_thousand_faces_take_seconds() -> None:
    scored = simulated(np.random.default_rng(0), groups=500, faces=20, distance=1, spread=0.5)
    start = time.process_time()
    measure(scored, threshold=0.5, bootstrap=Bootstrap())
    assert time.process_time() - start < 20  # about one on a quiet machine
