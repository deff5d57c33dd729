import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.faces import Face, FrontalFaceDetector, crop, widen
from tests.clips import astronaut_frames

sides = st.integers(1, 300)
edges = st.integers(-400, 700)


@given(left=edges, top=edges, right=edges, bottom=edges, margin=st.floats(0, 3), width=sides, height=sides)
def test_a_box_anywhere_becomes_a_part_of_the_frame_that_is_never_empty(
    left, top, right, bottom, margin, width, height
):
    box = widen(Face(left, top, right, bottom, 0.0), margin, width=width, height=height)
    assert 0 <= box[0] < box[2] <= width
    assert 0 <= box[1] < box[3] <= height


def test_without_a_margin_a_box_inside_the_frame_is_itself():
    assert widen(Face(10, 20, 50, 70, 0.0), 0.0, width=100, height=100) == (10, 20, 50, 70)


def test_a_margin_widens_each_side_by_a_part_of_it():
    assert widen(Face(40, 40, 60, 80, 0.0), 0.25, width=200, height=200) == (35, 30, 65, 90)


def test_a_crop_is_the_seeds_resize_in_rgb():
    rgb = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    expected = cv2.resize(rgb[20:90, 30:100], (64, 64))
    np.testing.assert_array_equal(crop(rgb, Face(30, 20, 100, 90, 1.0), margin=0.0, crop_px=64), expected)


@pytest.mark.parametrize(
    "face", [Face(-40, -40, 40, 40, 1.0), Face(130, 90, 190, 150, 1.0), Face(500, 500, 600, 600, 1.0)]
)
def test_a_face_that_leaves_the_frame_is_cropped_all_the_same(face):
    rgb = np.zeros((120, 160, 3), np.uint8)
    assert crop(rgb, face, margin=0.3, crop_px=32).shape == (32, 32, 3)


def test_the_detector_finds_the_face_and_the_order_of_the_channels_does_not_move_it():
    frame = next(iter(astronaut_frames(1)))
    detect = FrontalFaceDetector()
    (face,) = detect(frame)
    assert face.confidence > 0
    assert 0.5 < (face.right - face.left) / (face.bottom - face.top) < 2
    (swapped,) = detect(np.ascontiguousarray(frame[:, :, ::-1]))
    assert (swapped.left, swapped.top) == (face.left, face.top)


def test_nothing_is_found_where_nothing_is():
    assert FrontalFaceDetector()(np.full((240, 320, 3), 128, np.uint8)) == []
