import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dfd_core.errors import ModelError, RequestError
from dfd_core.model.calibration import Calibration, fit_calibration
from dfd_core.model.card import ModelCard, card_from_fields

TEMPERATURE = Calibration("temperature", temperature=2.0)
ISOTONIC = Calibration("isotonic", p_raw=(0.2, 0.4, 0.8), p_fake=(0.1, 0.1, 0.9))


def overconfident(count=4000, factor=3.0, seed=0):
    """Labels drawn from the true probabilities, and scores whose logits are `factor` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, count)
    labels = rng.random(count) < 1 / (1 + np.exp(-logits))
    return labels, (1 / (1 + np.exp(-factor * logits))).astype(np.float32)


def test_the_temperature_is_the_factor_by_which_the_logits_were_too_large():
    labels, raw = overconfident(factor=3.0)
    found = fit_calibration("temperature", is_fake=labels, p_raw=raw)
    assert found.temperature == pytest.approx(3.0, rel=0.08)
    losses = {
        t: log_loss(labels, Calibration("temperature", temperature=t).apply(raw))
        for t in np.linspace(0.5, 8, 76)
    }
    assert found.temperature == pytest.approx(min(losses, key=losses.get), abs=0.1)
    assert log_loss(labels, found.apply(raw)) < log_loss(labels, raw)


def test_a_weight_of_two_is_the_same_item_twice():
    labels, raw = overconfident(300)
    twice = fit_calibration("temperature", is_fake=[*labels, *labels[:100]], p_raw=[*raw, *raw[:100]])
    weight = np.where(np.arange(300) < 100, 2.0, 1.0)
    weighted = fit_calibration("temperature", is_fake=labels, p_raw=raw, weight=weight)
    assert weighted.temperature == pytest.approx(twice.temperature, rel=1e-4)


def test_scores_that_say_nothing_get_the_highest_temperature_and_perfect_ones_the_lowest():
    rng = np.random.default_rng(0)
    noise = fit_calibration("temperature", is_fake=rng.random(500) < 0.5, p_raw=rng.random(500))
    perfect = fit_calibration("temperature", is_fake=[False, True], p_raw=[0.4, 0.6])
    assert noise.temperature > 5
    assert perfect.temperature == pytest.approx(0.05, rel=0.01)


def test_isotonic_equals_scikit_learn_between_its_bounds():
    labels, raw = overconfident(800)
    found = fit_calibration("isotonic", is_fake=labels, p_raw=raw)
    edge = 0.5 / 800
    theirs = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(
        raw.astype(float), labels
    )
    grid = np.linspace(0, 1, 1001).astype(np.float32)
    np.testing.assert_allclose(found.apply(grid), theirs.predict(grid.astype(float)), atol=2e-6)
    assert 0 < found.apply(np.float32([0]))[0] < found.apply(np.float32([1]))[0] < 1


@pytest.mark.parametrize("calibration", [TEMPERATURE, ISOTONIC])
def test_order_range_and_nan_are_kept(calibration):
    raw = np.float32([0, 1e-8, 0.1, 0.3, 0.5, 0.9, 1, np.nan])
    found = calibration.apply(raw)
    assert found.dtype == np.float32
    assert (np.diff(found[:-1]) >= 0).all()
    assert ((found[:-1] >= 0) & (found[:-1] <= 1)).all()
    assert np.isnan(found[-1])
    assert calibration.apply(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("calibration", [TEMPERATURE, ISOTONIC])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.85])
def test_the_inverse_of_a_threshold_gives_the_same_verdicts(calibration, threshold):
    raw = np.random.default_rng(0).random(2000).astype(np.float32)
    assert ((calibration.apply(raw) >= threshold) == (raw >= calibration.invert(threshold))).mean() > 0.999


def test_the_inverse_at_the_ends():
    assert ISOTONIC.invert(0.05) == 0.0
    assert ISOTONIC.invert(0.95) == 1.0


def test_one_class_cannot_be_calibrated():
    with pytest.raises(RequestError, match="real and fake"):
        fit_calibration("isotonic", is_fake=[True, True], p_raw=[0.1, 0.9])


@pytest.mark.parametrize("calibration", [TEMPERATURE, ISOTONIC])
def test_a_card_holds_it(calibration):
    card = ModelCard("m", calibration=calibration.to_card())
    again = card_from_fields(json.loads(card.to_json()))
    assert Calibration.from_card(again.calibration) == calibration


def test_a_card_without_it_says_nothing_of_it():
    assert "calibration" not in json.loads(ModelCard("m").to_json())
    assert ModelCard("m").uncalibrated() == ModelCard("m")


def test_an_uncalibrated_card_has_the_threshold_of_raw_scores():
    card = ModelCard("m", threshold=0.75, calibration=TEMPERATURE.to_card()).uncalibrated()
    assert card.calibration is None
    assert card.threshold == pytest.approx(0.9)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "platt"},
        {"kind": "temperature"},
        {"kind": "temperature", "temperature": 0},
        {"kind": "temperature", "temperature": "2"},
        {"kind": "isotonic"},
        {"kind": "isotonic", "p_raw": [0.5, 0.5], "p_fake": [0, 1]},
        {"kind": "isotonic", "p_raw": [0.1, 0.5], "p_fake": [1, 0]},
        {"kind": "isotonic", "p_raw": [0.1, 0.5], "p_fake": [0]},
        {"kind": "isotonic", "p_raw": [0.1, 1.5], "p_fake": [0, 1]},
        {"kind": "isotonic", "p_raw": 3, "p_fake": [0, 1]},
        "temperature",
    ],
)
def test_a_card_with_an_unusable_one_is_refused(fields):
    with pytest.raises(ModelError, match="calibration"):
        ModelCard("m", calibration=fields)


LOGISTIC = Calibration("logistic", temperature=0.8, bias=-0.4)


def test_a_logistic_calibration_stretches_and_shifts_the_logit():
    p_raw = np.float32([0.1, 0.5, 0.9])

    expected = 1 / (1 + np.exp(-(np.log(p_raw / (1 - p_raw)) / 0.8 - 0.4)))

    np.testing.assert_allclose(LOGISTIC.apply(p_raw), expected, rtol=1e-6)
    assert Calibration.from_card(LOGISTIC.to_card()) == LOGISTIC
    assert LOGISTIC.apply(np.float32([LOGISTIC.invert(0.7)]))[0] == pytest.approx(0.7, abs=1e-6)


def test_a_logistic_fit_equals_scikit_learns_regression_on_the_logit():
    rng = np.random.default_rng(0)
    is_fake = rng.random(4000) < 0.4
    logits = rng.normal(np.where(is_fake, 1.0, -2.0), 1.5)
    model = LogisticRegression(C=np.inf).fit(logits[:, None], is_fake)

    fitted = fit_calibration("logistic", is_fake=is_fake, p_raw=1 / (1 + np.exp(-logits)))

    assert 1 / fitted.temperature == pytest.approx(model.coef_[0, 0], rel=1e-3)
    assert fitted.bias == pytest.approx(model.intercept_[0], abs=2e-3)


def test_only_a_logistic_calibration_has_a_bias():
    with pytest.raises(ValueError, match="bias"):
        Calibration("temperature", temperature=1.0, bias=0.1)
    with pytest.raises(ValueError, match="bias"):
        Calibration.from_card({"kind": "logistic", "temperature": 1.0})
