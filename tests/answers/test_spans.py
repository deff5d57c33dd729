import pytest

from dfd_core.answers.spans import spans_of
from dfd_core.answers.tracks import with_tracks
from dfd_core.one_video import score_video
from dfd_core.schemas import SPANS
from dfd_core.video.reader import decode_frames, index_frames
from tests.answers.face_rows import face, untracked
from tests.clips import write_clip


def spans(rows, low=0.4, high=0.7):
    found = spans_of(with_tracks(untracked(rows)), threshold_low=low, threshold_high=high)
    assert found.schema.equals(SPANS)
    return found.to_pylist()


def scored(*scores, **given):
    return [face(n, p_fake=score, **given) for n, score in enumerate(scores)]


def times(found):
    return [(span["start_s"], span["end_s"], span["num_faces"]) for span in found]


def test_a_span_begins_and_ends_where_the_low_threshold_is_crossed_and_holds_the_high_one():
    assert times(spans(scored(0.1, 0.5, 0.8, 0.5, 0.1, 0.5, 0.5, 0.1, 0.9))) == [(1.0, 3.0, 3), (8.0, 8.0, 1)]


def test_one_threshold_gives_the_stretches_at_or_above_it():
    assert times(spans(scored(0.1, 0.5, 0.4, 0.5), low=0.5, high=0.5)) == [(1.0, 1.0, 1), (3.0, 3.0, 1)]


def test_the_spans_of_a_track_are_numbered_and_averaged():
    found = spans(scored(0.8, 0.6, 0.1, 0.9))
    assert [span["span_index"] for span in found] == [0, 1]
    assert [span["p_fake"] for span in found] == pytest.approx([0.7, 0.9])


def test_a_span_stays_in_its_track_and_its_video():
    rows = scored(0.9, 0.9) + scored(0.9, 0.9, x=900, person=1, face_index=1) + scored(0.9, video_id="w")
    found = [
        (span["video_id"], span["track_id"], span["span_index"], span["num_faces"]) for span in spans(rows)
    ]
    assert found == [("v", 0, 0, 2), ("v", 1, 0, 2), ("w", 0, 0, 1)]


def test_an_altered_stretch_in_one_clip_is_found_within_a_sampling_step():
    """Real, fake, real joined: altered from 4.3 s to 8.6 s, looked at once a second."""
    rows = [face(n, p_fake=0.9 if 4.3 <= n < 8.6 else 0.1) for n in range(12)]
    ((start_s, end_s, _),) = times(spans(rows))
    assert 4.3 <= start_s <= 4.3 + 1 and 8.6 - 1 <= end_s <= 8.6


@pytest.mark.parametrize("rows", [[], scored(0.1, 0.69, 0.5)])
def test_where_nothing_is_suspicious_there_is_no_span(rows):
    assert spans(rows) == []


@pytest.mark.real
def test_the_altered_middle_of_a_real_clip_is_found_within_a_sampling_step(real_data, tmp_path):
    """Four seconds of an original, of its deepfake and of the original again, encoded as one clip without a cut."""
    folder = real_data / "validation" / "faceforensics"
    original, altered = (next(folder.rglob(f"{name}.mp4")) for name in ("917", "917_924"))
    parts = [frames_of(original)[:100], frames_of(altered)[100:200], frames_of(original)[200:300]]
    clip = write_clip(
        tmp_path / "joined.mp4", [frame for part in parts for frame in part], options={"crf": "18"}
    )
    score = score_video(clip, sampling="interval:0.5")
    spans = spans_of(score.faces, threshold_low=0.3, threshold_high=0.7).to_pylist()
    longest = max(spans, key=lambda span: span["num_faces"])
    assert score.faces.column("track_id").unique().to_pylist()[0] == longest["track_id"]
    assert abs(longest["start_s"] - 4.0) <= 0.5
    assert abs(longest["end_s"] - 8.0) <= 0.5


def frames_of(path):
    with open(path, "rb") as file:
        index = index_frames(file)
        return [frame.rgb for frame in decode_frames(file, index.positions(range(len(index.pts))[:300]))]
