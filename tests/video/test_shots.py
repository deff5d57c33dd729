import imagehash
import numpy as np
import pytest
from PIL import Image

from dfd.commands.demo_archive import portrait
from dfd_core.video.shots import ShotLog, difference, is_cut, look_of, perceptual_hash
from tests.clips import astronaut_frames, faceless_frames
from tests.two_faces import ASTRONAUT, HOPPER, filmed, path

GREY = np.asarray(Image.fromarray(portrait()).convert("L"))


def bits_apart(one, other):
    return (one ^ other).bit_count()


def test_the_hash_has_the_bits_of_imagehash():
    small = np.asarray(Image.fromarray(GREY).resize((32, 32), Image.Resampling.BOX))
    assert f"{perceptual_hash(small):016x}" == str(imagehash.phash(Image.fromarray(small)))


@pytest.mark.parametrize(
    "copy",
    [
        GREY[::2, ::2],
        np.pad(GREY, ((80, 80), (0, 0))),
        np.pad(GREY, ((0, 0), (60, 60)), constant_values=16),
        np.clip(GREY * 0.7 + 20, 0, 255).astype(np.uint8),
    ],
    ids=["half_size", "letterboxed", "pillarboxed", "duller"],
)
def test_a_copy_of_a_picture_has_nearly_the_same_hash(copy):
    assert bits_apart(perceptual_hash(np.ascontiguousarray(copy)), perceptual_hash(GREY)) <= 8


def test_another_picture_has_another_hash():
    other = np.ascontiguousarray(faceless_frames(1, 400, 400)[0][..., 0])
    assert bits_apart(perceptual_hash(other), perceptual_hash(GREY)) > 16


@pytest.mark.parametrize("value", [0, 16, 255])
def test_a_flat_picture_has_no_hash(value):
    assert perceptual_hash(np.full((120, 160), value, np.uint8)) == 0


def test_frames_are_counted_by_shot():
    walk = path((0, (200.0, 200.0)), (19, (700.0, 200.0)))
    log = ShotLog()
    shots = [log.add(frame) for frame in filmed({ASTRONAUT: walk}, backgrounds=[0] * 8 + [1] * 7 + [2] * 5)]
    assert shots == [0] * 8 + [1] * 7 + [2] * 5
    assert log.as_row()["num_shots"] == 3
    assert len(log.as_row()["frame_hashes"]) == 20


def test_neither_a_moving_camera_nor_two_who_cross_are_a_cut():
    log = ShotLog()
    assert {log.add(frame) for frame in astronaut_frames(100)[::10]} == {0}
    there, back = (
        path((0, (150.0, 200.0)), (9, (800.0, 200.0))),
        path((0, (800.0, 200.0)), (9, (150.0, 200.0))),
    )
    log = ShotLog()
    assert {log.add(frame) for frame in filmed({ASTRONAUT: there, HOPPER: back})} == {0}


def test_the_difference_runs_from_none_to_all():
    black, white = (look_of(np.full((90, 160, 3), value, np.uint8)) for value in (0, 255))
    assert (difference(black, black), difference(black, white)) == (0.0, 1.0)
    assert is_cut(black, white)


def test_no_frame_has_no_shot():
    assert ShotLog().as_row() == {"num_shots": 0, "frame_hashes": []}
