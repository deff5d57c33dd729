import dataclasses

import numpy as np
import pytest

from dfd_core.errors import RequestError
from dfd_core.training.augment import Augmentation, augment, augment_face, rng_of
from dfd_core.training.changes import CHANGES

NAMES = [field.name for field in dataclasses.fields(Augmentation) if field.name != "self_blend"]


def crop(side_px=48):
    rng = np.random.default_rng(3)
    smooth = np.linspace(30, 220, side_px)[:, None, None] + np.linspace(-20, 20, side_px)[None, :, None]
    return np.clip(smooth + rng.normal(0, 8, (side_px, side_px, 3)), 0, 255).astype(np.uint8)


def only(name):
    return Augmentation.parse(f"{name}=1")


@pytest.mark.parametrize("name", NAMES)
def test_each_change_alters_pixels_keeps_shape_and_leaves_its_input_alone(name):
    before = crop()
    after = augment(before, only(name), np.random.default_rng(0))
    assert (before == crop()).all()
    assert (after.shape, after.dtype) == (before.shape, np.uint8)
    assert (after != before).any()
    assert after.flags.c_contiguous


def test_nothing_is_changed_with_probabilities_of_zero():
    assert (augment(crop(), Augmentation.none(), np.random.default_rng(0)) == crop()).all()


def test_a_flip_is_a_mirror():
    assert (augment(crop(), only("flip"), np.random.default_rng(0)) == crop()[:, ::-1]).all()


def test_blur_and_scaling_take_fine_detail_away_and_noise_adds_it():
    def detail(picture):
        return np.abs(np.diff(picture.astype(float), axis=1)).mean()

    changed = {name: detail(augment(crop(), only(name), np.random.default_rng(1))) for name in NAMES}
    assert changed["blur"] < detail(crop())
    assert changed["rescale"] < detail(crop())
    assert changed["noise"] > detail(crop())


def test_erasing_touches_one_rectangle_of_the_stated_area():
    for seed in range(20):
        changed = (augment(crop(), only("erase"), np.random.default_rng(seed)) != crop()).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / changed.size
        assert 0.01 < area < 0.25


def test_a_change_happens_as_often_as_its_probability_says():
    flipped = [
        (augment(crop(8), Augmentation.parse("flip=0.3"), rng_of(1, 2, position)) != crop(8)).any()
        for position in range(2000)
    ]
    assert 0.26 < np.mean(flipped) < 0.34


def test_a_face_looks_the_same_in_the_same_epoch_and_different_in_another():
    def draw(seed, epoch, position):
        return augment(crop(), Augmentation.parse("noise=1"), rng_of(seed, epoch, position)).tobytes()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(1, 2, 4), draw(1, 3, 3), draw(2, 2, 3)}) == 4


def test_text_and_augmentation_say_the_same():
    assert Augmentation.parse("default") == Augmentation()
    assert Augmentation.parse(str(Augmentation())) == Augmentation()
    assert str(Augmentation.none()) == "none"
    assert Augmentation.parse("jpeg=0.5") == Augmentation(0, 0, 0, 0, 0, 0.5, 0)


@pytest.mark.parametrize("text", ["", "jpeg", "jpeg=2", "jpeg=x", "sepia=1", "flip=1,flip=0", "flip=nan"])
def test_anything_else_is_refused(text):
    with pytest.raises(RequestError, match="NAME=P"):
        Augmentation.parse(text)


def test_a_probability_outside_0_to_1_is_refused():
    with pytest.raises(RequestError, match="blur"):
        Augmentation(blur=-0.1)


def test_every_probability_has_its_change_and_every_change_its_probability():
    assert sorted(CHANGES) == sorted(NAMES)


def test_only_real_faces_are_blended_and_they_become_fakes():
    blends = Augmentation.parse("self_blend=1")
    for is_fake in (False, True):
        changed, label = augment_face(
            crop(),
            is_fake=is_fake,
            landmarks=None,
            augmentation=blends,
            rng=rng_of(0, 0, 1),
        )
        assert label is True
        assert (changed != crop()).any() is np.bool_(not is_fake)
    unchanged = augment_face(
        crop(), is_fake=False, landmarks=None, augmentation=Augmentation.none(), rng=rng_of(0, 0, 1)
    )
    assert unchanged[1] is False
    assert (unchanged[0] == crop()).all()


def test_h264_leaves_the_blocks_of_a_coarse_encoder_and_less_detail():
    before = crop(64).astype(float)
    errors = []
    for seed in range(10):
        after = augment(crop(64), only("h264"), np.random.default_rng(seed)).astype(float)
        assert abs(after.mean() - before.mean()) < 4
        assert np.abs(np.diff(after, axis=1)).mean() < np.abs(np.diff(before, axis=1)).mean()
        errors.append(np.abs(after - before).mean())
    assert max(errors) > 1.2 * min(errors)
