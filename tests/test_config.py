import pytest

from dfd_core.config import Aggregation, ExtractConfig, Limits, Sampling, as_json, identity
from dfd_core.errors import RequestError


@pytest.mark.parametrize("text", ["stride", "interval:2", "interval:0.5", "uniform:32", "keyframes"])
def test_a_sampling_is_written_as_it_is_read(text):
    assert str(Sampling.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "strides", "stride:2", "interval", "interval:0", "interval:-1", "interval:nan", "interval:inf", "uniform:0", "uniform:2.5", "uniform:x", "keyframes:2", "keyframe"]
)  # fmt: skip
def test_a_wrong_sampling_is_refused(text):
    with pytest.raises(RequestError, match="Expected"):
        Sampling.parse(text)


@pytest.mark.parametrize("text", ["mean", "median", "max", "topk:5"])
def test_an_aggregation_is_written_as_it_is_read(text):
    assert str(Aggregation.parse(text)) == text


@pytest.mark.parametrize("text", ["", "average", "topk", "topk:0", "topk:-1", "mean:2"])
def test_a_wrong_aggregation_is_refused(text):
    with pytest.raises(RequestError, match="Expected"):
        Aggregation.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"segment_s": 0},
        {"segment_s": float("nan")},
        {"crop_px": 0},
        {"margin": -0.1},
        {"margin": float("inf")},
        {"detect_max_side_px": 79},
    ],
)
def test_a_wrong_extract_configuration_is_refused(wrong):
    with pytest.raises(RequestError, match="Expected"):
        ExtractConfig(**wrong)


def test_limits_of_zero_are_refused():
    with pytest.raises(RequestError, match="max_pixels"):
        Limits(max_pixels=0)


def test_the_identity_does_not_depend_on_order_and_does_on_values():
    assert identity({"a": 1, "b": [2]}) == identity({"b": [2], "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})


def test_a_configuration_is_json_with_its_sampling_as_text():
    values = as_json(ExtractConfig(sampling=Sampling.parse("interval:2")))
    assert values["sampling"] == "interval:2"
    assert values["limits"]["timeout_floor_s"] == Limits().timeout_floor_s
