"""The detector for archives, held to dlib."""

import cv2
import numpy as np
import pytest

from dfd_core.config import DETECTORS, ExtractConfig
from dfd_core.errors import RequestError
from dfd_core.faces.detect import Face, FrontalFaceDetector
from dfd_core.faces.detectors import load_detector
from dfd_core.faces.fast import FastFaceDetector, as_dlib_frames
from dfd_core.faces.versions import detector_version
from tests.clips import astronaut_frames


@pytest.fixture(scope="module")
def detect():
    return FastFaceDetector()


def overlap(one, other):
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    areas = [(face.right - face.left) * (face.bottom - face.top) for face in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (1200, 900), (700, 1244)])
def test_the_face_is_framed_as_dlib_frames_it(detect, width, height):
    (frame,) = astronaut_frames(1, width, height)
    (expected,) = FrontalFaceDetector()(frame)
    found = max(detect(frame), key=lambda face: face.confidence)
    assert overlap(found, expected) > 0.6
    assert abs((found.right - found.left) - (found.bottom - found.top)) <= 1
    assert 0.5 < found.confidence <= 1


def test_a_turned_face_that_dlib_does_not_see_is_found(detect):
    (frame,) = astronaut_frames(1, 640, 480)
    (upright,) = FrontalFaceDetector()(frame)
    center = (upright.left + upright.right) / 2, (upright.top + upright.bottom) / 2
    turned = cv2.warpAffine(frame, cv2.getRotationMatrix2D(center, 65, 1.0), (640, 480))
    assert FrontalFaceDetector()(turned) == []
    assert overlap(detect(turned)[0], upright) > 0.5


@pytest.mark.parametrize("shape", [(240, 320), (1, 1), (3, 900), (900, 3), (33, 31)])
def test_nothing_is_found_where_nothing_is(detect, shape):
    assert detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_smaller_input_finds_no_faces_that_are_too_small_in_it():
    (frame,) = astronaut_frames(1, 1200, 900)
    assert FastFaceDetector()(frame)
    assert FastFaceDetector(max_side_px=32)(frame) == []


def test_a_box_becomes_a_square_around_the_middle_of_the_face():
    face = as_dlib_frames(np.array([100, 50, 180, 150, 0.75], np.float32))
    assert face == Face(98, 63, 182, 147, 0.75)


def test_every_detector_has_a_name_and_a_version():
    assert {name: type(load_detector(name)).__name__ for name in DETECTORS} == {
        "dlib": "FrontalFaceDetector",
        "fast": "FastFaceDetector",
    }
    assert detector_version("dlib").startswith("dlib-20.")
    assert detector_version("fast") == "centerface-1"
    with pytest.raises(RequestError, match="dlib or fast"):
        ExtractConfig(detector="slow")
