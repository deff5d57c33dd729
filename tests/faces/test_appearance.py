import numpy as np
import pytest

from dfd_core.faces.appearance import NUM_BYTES, appearance_of, as_matrix
from dfd_core.faces.detect import Face
from dfd_core.schemas import SEGMENT_RESULT
from tests.two_faces import ASTRONAUT, HOPPER, scene

BOX = {ASTRONAUT: (-54, -42, 50, 61), HOPPER: (-74, -22, 75, 127)}
"""What the detector finds around the middle of each photograph."""


def described(person, x, y, background=0, gain=1.0):
    frame = np.clip(scene({person: (x, y)}, background=background) * gain, 0, 255).astype(np.uint8)
    left, top, right, bottom = BOX[person]
    return appearance_of(frame, Face(x + left, y + top, x + right, y + bottom, 1.0))


def distance(one, other):
    a, b = as_matrix(one + other)
    return float(np.abs(a - b).sum())


def test_one_person_looks_more_like_herself_elsewhere_and_in_other_light_than_like_another():
    at_home = {person: described(person, 200, 200) for person in (ASTRONAUT, HOPPER)}
    between = distance(*at_home.values())
    for person, known in at_home.items():
        moved = described(person, 601, 187, background=1)
        darker = described(person, 200, 200, gain=0.8)
        assert distance(known, moved) < between / 2
        assert distance(known, darker) < between


def test_a_descriptor_has_the_size_that_the_log_keeps():
    assert len(described(HOPPER, 300, 200)) == NUM_BYTES
    assert SEGMENT_RESULT.field("faces").type.value_type.field("appearance").type.byte_width == NUM_BYTES


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (-500, -500, -400, -400), (900, 350, 2000, 2000), (5, 5, 5, 5)]
)
def test_any_box_of_any_picture_has_a_finite_descriptor(box):
    for frame in (scene({}), np.zeros((9, 7, 3), np.uint8), np.full((400, 960, 3), 255, np.uint8)):
        assert np.isfinite(as_matrix(appearance_of(frame, Face(*box, 1.0)))).all()
