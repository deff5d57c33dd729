import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.stages.keeping import kept_faces
from dfd_core.stages.occlusion import GRID, occlusion_map


def kept(p_fake, *, shot=None, frame=None, left=None, keep=6):
    n = len(p_fake)
    columns = (
        np.asarray(default if given is None else given)
        for given, default in ((shot, [0] * n), (frame, range(n)), (left, [0] * n))
    )
    return kept_faces(np.array(p_fake, np.float32), *columns, keep=keep).tolist()


def test_one_person_keeps_the_most_and_the_least_suspicious_faces():
    assert kept([0.5, 0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.4]) == [1, 2, 3, 4, 5, 6]


def test_each_of_two_people_in_a_frame_keeps_both_kinds():
    frames, lefts = [0, 0, 1, 1, 2, 2, 3, 3], [10, 300, 12, 310, 305, 11, 14, 300]
    p_fake = [0.9, 0.1, 0.8, 0.3, 0.2, 0.7, 0.6, 0.05]
    assert kept(p_fake, frame=frames, left=lefts, keep=2) == [0, 3, 6, 7]


def test_of_many_shots_the_most_suspicious_are_kept():
    assert kept([0.1, 0.9, 0.2, 0.8], shot=[0, 1, 2, 3], keep=2) == [1, 3]


def test_nothing_is_kept_of_nothing_and_nothing_if_nothing_is_asked_for():
    assert kept([]) == []
    assert kept([0.5], keep=0) == []


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 5), st.integers(0, 3)), max_size=60),
    st.integers(1, 9),
)
def test_what_is_kept_is_bounded_and_holds_the_most_suspicious_persons_best(faces, keep):
    p_fake, shots, lefts = ([face[place] for face in faces] for place in range(3))
    found = kept(p_fake, shot=shots, left=lefts, keep=keep)
    assert len(found) <= 2 * keep + 1
    assert found == sorted(set(found))
    if faces:
        assert found


def test_an_occlusion_map_is_the_fall_of_the_score_where_a_part_is_covered():
    crop = np.zeros((70, 70, 3), np.uint8)
    crop[10:20, 30:40] = 200  # row 1, column 3

    def predict(crops):
        return (crops[:, 10:20, 30:40].mean(axis=(1, 2, 3)) / 255).astype(np.float32)

    found = np.array(occlusion_map(crop, float(predict(crop[None])[0]), predict)).reshape(GRID, GRID)
    mean = round(200 * 100 / 4900)
    assert np.isclose(found[1, 3], (200 - mean) / 255, atol=1e-6)
    found[1, 3] = 0
    assert not found.any()
