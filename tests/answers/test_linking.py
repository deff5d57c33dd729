"""Who is linked to whom, on rows written by hand and on generated clips of two people that the detector sees."""

import numpy as np
import pytest

from dfd_core.answers.linking import link
from dfd_core.answers.tracks import sightings
from dfd_core.faces.appearance import appearance_of
from dfd_core.faces.detect import FrontalFaceDetector
from dfd_core.video.shots import ShotLog
from tests.answers.face_rows import face, looks, untracked
from tests.two_faces import ASTRONAUT, HOPPER, NOWHERE, filmed, path


def tracks(rows):
    return link(sightings(untracked(rows))).tolist()


def test_a_person_who_stays_is_one_track():
    assert tracks([face(n, x=100 + 9 * n) for n in range(8)]) == [0] * 8


def test_two_people_are_two_tracks_whatever_the_detectors_order():
    rows = [face(n, 0, x=100, face_index=n % 2) for n in range(6)]
    rows += [face(n, 1, x=600, face_index=1 - n % 2) for n in range(6)]
    assert tracks(rows) == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0]


def test_no_track_goes_across_a_cut():
    assert tracks([face(n, shot=int(n >= 3)) for n in range(6)]) == [0, 0, 0, 1, 1, 1]


def test_who_takes_another_persons_place_is_not_that_person():
    assert tracks([face(n, int(n >= 3)) for n in range(6)]) == [0, 0, 0, 1, 1, 1]


def test_who_comes_back_in_the_same_shot_goes_on():
    rows = [face(n, 0) for n in (0, 1, 2, 9, 10)] + [face(n, 1, x=600, face_index=1) for n in range(11)]
    found = tracks(rows)
    rows = sorted(rows, key=lambda row: (row["frame_index"], row["face_index"]))
    assert {number for row, number in zip(rows, found, strict=True) if row["left"] == 100} == {0}


def test_every_video_has_its_own_numbers():
    rows = [face(n, video_id=name) for name in ("a", "b") for n in range(3)]
    rows += [face(2, 1, x=500, face_index=1, video_id="b")]
    assert tracks(rows) == [0, 0, 0, 0, 0, 0, 1]


def test_without_appearances_place_and_size_decide():
    rows = [face(n, None, x=100) for n in range(4)] + [face(n, None, x=900, face_index=1) for n in range(4)]
    assert tracks(rows) == [0, 1] * 4


def test_a_face_in_a_frame_of_several_is_never_in_the_track_of_another():
    rng = np.random.default_rng(1)
    rows = []
    for n in range(40):
        for number in range(rng.integers(1, 6)):
            rows.append(face(n, int(rng.integers(8)), x=int(rng.integers(900)), face_index=number))
    found = tracks(rows)
    frames = [row["frame_index"] for row in sorted(rows, key=lambda r: (r["frame_index"], r["face_index"]))]
    pairs = list(zip(frames, found, strict=True))
    assert len(set(pairs)) == len(pairs)
    first = list(dict.fromkeys(found))
    assert first == list(range(len(first)))


def test_the_quick_way_and_the_frame_by_frame_way_agree():
    """A second face anywhere in the scene sends it the frame-by-frame way."""
    rows = [face(n, 0, x=100 + 5 * n, appearance=looks(0, noise=4, seed=n)) for n in range(20)]
    alone = tracks(rows)
    with_another = tracks([*rows, face(19, 3, x=900, face_index=1)])
    assert with_another[:-1] == alone == [0] * 20
    assert with_another[-1] == 1


def test_no_faces_have_no_tracks():
    assert tracks([]) == []


# --- generated clips ----------------------------------------------------------------------------------------------

SECONDS = 12
LEFT, RIGHT = (200.0, 200.0), (720.0, 200.0)


def stays(place):
    return [place] * SECONDS


def goes(start, end):
    return path((0, start), (SECONDS - 1, end))


SCENES = {
    "side by side": ({ASTRONAUT: stays(LEFT), HOPPER: stays(RIGHT)}, None),
    "crossing": ({ASTRONAUT: goes(LEFT, RIGHT), HOPPER: goes(RIGHT, LEFT)}, None),
    "leaving and coming back": (
        {ASTRONAUT: stays(LEFT)[:4] + [NOWHERE] * 4 + stays(RIGHT)[:4], HOPPER: stays((460.0, 200.0))},
        None,
    ),
    "taking turns in one place": (
        {ASTRONAUT: stays(LEFT)[:4] + [NOWHERE] * 4 + stays(LEFT)[:4], HOPPER: [NOWHERE] * 4 + stays(LEFT)[:4] + [NOWHERE] * 4},
        None,
    ),
    "a cut that swaps them": (
        {ASTRONAUT: stays(LEFT)[:6] + stays(RIGHT)[:6], HOPPER: stays(RIGHT)[:6] + stays(LEFT)[:6]},
        [0] * 6 + [1] * 6,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def detect():
    return FrontalFaceDetector()


def seen(paths, backgrounds, detect):
    """Return the faces that the detector finds in a scene at a frame a second, and who each of them is."""
    rows, people, shots = [], [], ShotLog()
    for n, frame in enumerate(filmed(paths, backgrounds=backgrounds)):
        shot = shots.add(frame)
        for number, found in enumerate(detect(frame)):
            x = (found.left + found.right) / 2
            nearest = min(paths, key=lambda person: abs(np.nan_to_num(paths[person][n][0], nan=1e9) - x))
            box = {"left": found.left, "top": found.top, "right": found.right, "bottom": found.bottom}
            given = {"appearance": appearance_of(frame, found), "shot": shot, "face_index": number}
            rows.append(face(n, **box, **given))
            people.append((nearest, shot))
    return rows, people


@pytest.mark.parametrize("name", SCENES)
def test_nobody_is_mistaken_and_no_track_breaks_but_at_a_cut(name, detect):
    rows, people = seen(*SCENES[name], detect)
    found = tracks(rows)
    assert len(rows) >= SECONDS
    assert len({*zip(people, found, strict=True)}) == len(set(people)) == len(set(found))
