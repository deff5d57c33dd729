import cv2
import numpy as np

from dfd_core.faces.detect import Face
from dfd_core.faces.kept import MOST_BYTES, MOST_SIDE_PX, picture_of


def frame(height=400, width=600):
    """Return a frame whose red says the column and whose green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, np.zeros_like(rows)], axis=2).astype(
        np.uint8
    )


def decoded(picture):
    return cv2.cvtColor(
        cv2.imdecode(np.frombuffer(picture["jpeg"], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def test_a_small_face_keeps_the_frames_resolution_with_half_a_side_around_it():
    picture = picture_of(frame(), Face(200, 100, 300, 180, 1.0))
    assert (picture["width"], picture["height"]) == (200, 160)
    assert [picture[name] for name in ("left", "top", "right", "bottom")] == [50, 40, 150, 120]
    shown, expected = decoded(picture), frame()[60:220, 150:350]
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 3


def test_a_large_face_is_scaled_to_the_longest_side_and_its_box_with_it():
    picture = picture_of(frame(2000, 3000), Face(1000, 500, 2000, 1500, 1.0))
    assert (picture["width"], picture["height"]) == (MOST_SIDE_PX, MOST_SIDE_PX)
    assert [picture[name] for name in ("left", "top", "right", "bottom")] == [96, 96, 288, 288]


def test_a_face_at_the_edge_is_clipped():
    picture = picture_of(frame(), Face(-20, -20, 80, 80, 1.0))
    assert (picture["width"], picture["height"]) == (130, 130)
    assert [picture[name] for name in ("left", "top", "right", "bottom")] == [0, 0, 80, 80]


def test_bytes_are_bounded_even_for_noise():
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    assert len(picture_of(noise, Face(200, 200, 392, 392, 1.0))["jpeg"]) <= MOST_BYTES
