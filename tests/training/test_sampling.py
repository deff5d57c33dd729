"""How often each face is in an epoch."""

import numpy as np
import pandas as pd
import pytest

from dfd_core.errors import RequestError
from dfd_core.training.sampling import balanced_weights, draw_epoch, parse_weights

DATASETS = pd.Series(["big"] * 60 + ["small"] * 7 + ["tiny"] * 3)


def test_each_dataset_gets_its_share_and_every_face_a_place():
    drawn = draw_epoch(DATASETS, {"big": 2, "small": 1, "tiny": 1}, seed=1)
    counts = DATASETS.iloc[drawn].value_counts()
    assert counts.to_dict() == {"big": 60, "small": 30, "tiny": 30}
    places = np.bincount(drawn, minlength=70)
    assert (places[:60] == 1).all()
    assert set(places[60:67]) <= {4, 5}
    assert (places[67:] == 10).all()


def test_without_weights_each_face_has_one_place_in_a_seeded_order():
    orders = [draw_epoch(DATASETS, {}, seed).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(70))


def test_the_weights_must_name_the_datasets():
    with pytest.raises(RequestError, match=r"each dataset: big, small\. Received: big, small, tiny"):
        draw_epoch(DATASETS, {"big": 1, "small": 1}, seed=0)
    with pytest.raises(RequestError, match="no datasets and faces without one"):
        draw_epoch(pd.Series([None, None]), {"big": 1}, seed=0)


@pytest.mark.parametrize("text", ["a", "a=0", "a=-1", "a=x", "a=1,a=2", "=1", "a=inf", "a=nan"])
def test_anything_else_is_no_weights(text):
    with pytest.raises(RequestError, match="--dataset-weights"):
        parse_weights(text)
    assert parse_weights("") == {}
    assert parse_weights("a=b=2, c=1") == {"a=b": 2.0, "c": 1.0}


def test_balanced_weights_reckon_with_reals_that_become_fakes():
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.3
    real, fake = balanced_weights(labels, self_blend=0.25)
    blended = labels | (~labels & (rng.random(20_000) < 0.25))
    sums = [real * (~blended).sum(), fake * blended.sum()]
    assert sums[0] == pytest.approx(sums[1], rel=0.05)
    assert sum(sums) / 20_000 == pytest.approx(1, rel=0.02)


def test_balanced_weights_give_both_labels_the_same_sum_and_a_mean_of_one():
    labels = np.arange(30) < 4
    real, fake = balanced_weights(labels)
    assert real * 26 == pytest.approx(fake * 4)
    assert (real * 26 + fake * 4) / 30 == pytest.approx(1)
