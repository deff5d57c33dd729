import cv2
import dlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.faces.detect import Face, FrontalFaceDetector, crop, detect_scaled, widen
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


class Corners:
    """Finds a face that fills the frame, and keeps what it was shown."""

    def __call__(self, rgb):
        self.seen = rgb
        return [Face(0, 0, rgb.shape[1], rgb.shape[0], 0.5), Face(-3, 1, 2, 1, 0.25)]


@given(width=st.integers(1, 700), height=st.integers(1, 700), max_side_px=st.integers(80, 800))
def test_a_frame_is_seen_no_larger_than_asked_and_its_boxes_are_those_of_the_whole(
    width, height, max_side_px
):
    detect = Corners()
    whole, small = detect_scaled(np.zeros((height, width, 3), np.uint8), detect, max_side_px=max_side_px)
    seen_height, seen_width = detect.seen.shape[:2]
    longer = max(width, height)
    assert max(seen_width, seen_height) == min(longer, max_side_px)
    assert abs(seen_width * height - seen_height * width) <= longer  # the sides are whole numbers of pixels
    assert (whole.left, whole.top, whole.right, whole.bottom) == (0, 0, width, height)
    assert abs(small.left * seen_width + 3 * width) <= seen_width / 2
    assert (whole.confidence, small.confidence) == (0.5, 0.25)


@pytest.mark.parametrize("max_side_px", [None, 320, 1000])
def test_a_frame_that_is_small_enough_is_seen_as_it_is(max_side_px):
    (frame,) = astronaut_frames(1)
    detect = Corners()
    detect_scaled(frame, detect, max_side_px=max_side_px)
    assert detect.seen is frame
    plain = FrontalFaceDetector()
    assert detect_scaled(frame, plain, max_side_px=max_side_px) == plain(frame) != []


def test_the_face_of_a_scaled_frame_is_where_dlib_sees_it_and_where_it_is():
    (frame,) = astronaut_frames(1, 1200, 900)
    (found,) = detect_scaled(frame, FrontalFaceDetector(), max_side_px=400)
    (box,), (confidence,), _ = dlib.get_frontal_face_detector().run(
        cv2.resize(frame, (400, 300), interpolation=cv2.INTER_AREA), 0
    )
    assert found == Face(3 * box.left(), 3 * box.top(), 3 * box.right(), 3 * box.bottom(), confidence)
    (whole,) = FrontalFaceDetector()(frame)
    for side in ("left", "top", "right", "bottom"):
        assert abs(getattr(found, side) - getattr(whole, side)) < 0.15 * (whole.right - whole.left)


def test_a_face_smaller_than_the_window_in_the_scaled_frame_is_not_found():
    (frame,) = astronaut_frames(1, 1200, 900)
    (face,) = FrontalFaceDetector()(frame)
    max_side_px = 1200 * 50 // (face.right - face.left)
    assert detect_scaled(frame, FrontalFaceDetector(), max_side_px=max_side_px) == []
