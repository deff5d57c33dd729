import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import trim_mean

from dfd_core.answers.tracks import tracks_of, with_tracks, worst_scores
from dfd_core.schemas import FACES, TRACKS
from tests.answers.face_rows import face, untracked


def tracked(rows):
    return with_tracks(untracked(rows))


def two_people():
    rows = [face(n, 0, x=100, p_fake=[0.1, 0.2, 0.9, 0.2, 0.1, 0.2][n]) for n in range(6)]
    return rows + [face(n, 1, x=600, face_index=1, p_fake=0.7 + n / 100) for n in range(2, 5)]


def test_a_track_says_when_how_much_and_which_faces():
    tracks = tracks_of(tracked(two_people()))
    first, second = tracks.to_pylist()
    assert first == pytest.approx(
        {
            "video_id": "v",
            "track_id": 0,
            "start_s": 0.0,
            "end_s": 5.0,
            "first_frame_index": 0,
            "last_frame_index": 125,
            "num_frames": 6,
            "num_faces": 6,
            "p_fake": 0.175,
            "most_frame_index": 50,
            "most_face_index": 0,
            "least_frame_index": 0,
            "least_face_index": 0,
        }
    )
    assert (second["track_id"], second["start_s"], second["num_faces"]) == (1, 2.0, 3)
    assert (second["most_frame_index"], second["most_face_index"]) == (100, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9, 10, 11])
def test_the_score_of_a_track_is_scipys_trimmed_mean(count):
    scores = [(7 * n % 11) / 11 for n in range(count)]
    tracks = tracks_of(tracked([face(n, p_fake=score) for n, score in enumerate(scores)]))
    assert tracks.column("p_fake").to_pylist() == [pytest.approx(trim_mean(scores, 0.2))]


def test_faces_keep_their_rows_and_gain_a_track():
    rows = untracked(two_people())
    faces = with_tracks(rows)
    assert faces.schema.equals(FACES)
    assert faces.drop_columns("track_id").equals(rows.select(faces.drop_columns("track_id").column_names).cast(faces.drop_columns("track_id").schema))  # fmt: skip
    assert pc.count_distinct(faces.column("track_id")).as_py() == 2


def test_the_worst_track_is_known_of_videos_with_several_that_are_long_enough():
    rows = [*two_people(), face(4, 5, x=1500, face_index=2, p_fake=1.0)]
    rows += [face(n, 0, video_id="w", p_fake=0.3) for n in range(5)]
    rows += [face(n, 1, video_id="w", x=900, face_index=1, p_fake=0.9) for n in range(2)]
    worst = worst_scores(tracks_of(tracked(rows)))
    assert worst.to_pylist() == [{"video_id": "v", "p_fake": pytest.approx(0.73)}]


def test_no_faces_have_no_tracks():
    empty = tracks_of(tracked([]))
    assert worst_scores(empty).num_rows == 0
    assert empty.num_rows == 0
    assert empty.schema.equals(
        pa.schema([field for field in TRACKS if field.name not in ("verdict", "uncertain_reason")])
    )
