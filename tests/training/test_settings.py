import json

import pytest

from dfd_core.errors import ModelError, RequestError
from dfd_core.training.augment import Augmentation
from dfd_core.training.settings import TrainingSettings


def test_the_defaults_are_those_of_the_report():
    found = TrainingSettings()
    assert (found.backbone, found.input_size, found.weights, found.freeze_until) == (
        "inception_resnet_v2",
        128,
        "imagenet",
        None,
    )
    assert (found.optimizer, found.learning_rate, found.batch_size, found.epochs) == ("adam", 1e-5, 32, 20)
    assert (found.patience, found.lr_factor, found.lr_patience, found.min_learning_rate) == (5, 0.2, 2, 1e-6)
    assert found.validation == 0.2


def test_json_holds_them():
    wanted = TrainingSettings(
        backbone="SmallResNet", augmentation=Augmentation.parse("jpeg=0.5"), num_workers=4
    )
    assert wanted.backbone == "small_resnet"
    assert TrainingSettings.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted
    assert wanted.batch_per_worker == 8


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 5, "num_workers": 2}, "--batch-size"),
        ({"num_workers": 0}, "--workers"),
        ({"learning_rate": 0}, "--learning-rate"),
        ({"learning_rate": float("inf")}, "--learning-rate"),
        ({"lr_factor": 1}, "--lr-factor"),
        ({"validation": 1}, "--validation"),
        ({"batch_norm_momentum": 1}, "--batch-norm-momentum"),
        ({"input_size": 4}, "--input-size"),
        ({"calibration": "platt"}, "--calibration"),
        ({"class_balance": "smote"}, "--class-balance"),
        ({"precision": "int8"}, "--precision"),
        ({"optimizer": "lion"}, "--optimizer"),
        ({"seed": -1}, "--seed"),
        ({"threshold": "best"}, "threshold"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_flag(change, flag):
    with pytest.raises(RequestError, match=flag):
        TrainingSettings(**change)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ModelError, match="small_resnet"):
        TrainingSettings(backbone="resnet9000")
