import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import OutputError
from dfd_core.review.page import write_page
from dfd_core.review.records import links
from dfd_core.review.videos import MOST_FACES
from tests.review.answered_folder import write_answers
from tests.scored_folder import write_scores

VIDEOS = [
    {"video_id": "b.mp4", "tracks": [[0.1, 0.2]], "label": "real"},
    {"video_id": "a.mp4", "tracks": [[0.2, 0.9, 0.95, 0.3], [0.1] * 4], "label": "fake"},
    {"video_id": "none.mp4", "status": "no_face"},
]


def read(page, name):
    text = (page / "data" / f"{name}.js").read_text()
    return json.loads(re.fullmatch(rf'dfdReview\("{name}", (.*)\);\n', text, re.S)[1])


def test_a_page_holds_every_video_the_most_suspicious_first(tmp_path):
    counts = write_page(str(write_answers(tmp_path / "s", VIDEOS)), str(tmp_path / "p"))
    assert (counts.num_videos, counts.num_shown, counts.num_pictures) == (3, 3, 12)
    rows = read(tmp_path / "p", "list")
    assert [row["id"] for row in rows] == ["a.mp4", "b.mp4", "none.mp4"]
    assert rows[0]["spans"] == [[0, 0.5, 1.0, 0.95, 2]]
    assert rows[2]["p"] is None
    records = read(tmp_path / "p", "videos-0")
    assert [len(record["faces"]) for record in records] == [8, 2, 0]
    assert [track["id"] for track in records[0]["tracks"]] == [0, 1]
    assert len(read(tmp_path / "p", "faces-0")[0]) == 2


def test_a_limit_keeps_the_most_suspicious(tmp_path):
    counts = write_page(str(write_answers(tmp_path / "s", VIDEOS)), str(tmp_path / "p"), limit=1)
    assert (counts.num_videos, counts.num_shown) == (3, 1)
    assert [row["id"] for row in read(tmp_path / "p", "list")] == ["a.mp4"]


def test_a_run_without_tracks_spans_and_pictures_has_a_page(tmp_path):
    scores = write_scores(tmp_path / "s", [{"video_id": "a.mp4", "faces": [0.2, 0.9]}])
    file = scores / "faces" / "part-00000.parquet"
    pq.write_table(
        pq.read_table(file).drop_columns(["track_id", "shot"]), file
    )  # as the first version wrote it
    assert write_page(str(scores), str(tmp_path / "p")).num_pictures == 0
    (record,) = read(tmp_path / "p", "videos-0")
    assert record["tracks"] == record["spans"] == []
    assert [face[1] for face in record["faces"]] == [None]  # both at 0 seconds: the more suspicious one


def test_of_a_long_track_the_most_suspicious_face_of_each_part_is_shown(tmp_path):
    track = [0.1] * 5000
    track[3456] = 0.99
    write_page(
        str(write_answers(tmp_path / "s", [{"video_id": "a.mp4", "tracks": [track]}])), str(tmp_path / "p")
    )
    faces = read(tmp_path / "p", "videos-0")[0]["faces"]
    assert MOST_FACES <= len(faces) <= MOST_FACES + 1
    assert [face[0] for face in faces if face[2] == 0.99] == [3456 * 0.5]


def test_own_columns_of_any_type_are_text_and_columns_of_the_program_are_facts(tmp_path):
    scores = write_scores(tmp_path / "s", [{"video_id": "a.mp4", "faces": [0.9]}])
    file = scores / "videos" / "part-00000.parquet"
    table = pq.read_table(file)
    model_id = table.column_names.index("model_id")
    table = table.add_column(model_id, "c2pa_state", [["absent"]])
    table = table.append_column("year", pa.array([2026])).append_column('odd "name"', pa.array(["x"]))
    pq.write_table(table, file)
    write_page(str(scores), str(tmp_path / "p"))
    assert read(tmp_path / "p", "list")[0]["own"] == ["2026", "x"]
    facts = {name: value for name, value, _ in read(tmp_path / "p", "videos-0")[0]["facts"]}
    assert facts["c2pa_state"] == "absent" and facts['odd "name"'] == "x"


def test_nothing_of_a_name_can_end_a_string_or_a_script(tmp_path):
    name = "</script><img src=x onerror=alert(1)>\u2028\"'&.mp4"
    scores = write_answers(tmp_path / "s", [{"video_id": name, "tracks": [[0.9]], "note": "</script>"}])
    write_page(str(scores), str(tmp_path / "p"))
    for file in (tmp_path / "p" / "data").iterdir():
        assert not re.search(rb"[<>&\x80-\xff]", file.read_bytes())
    assert read(tmp_path / "p", "list")[0]["id"] == name
    assert "alert(1)" not in (tmp_path / "p" / "index.html").read_text()


def test_an_earlier_page_is_replaced_and_anything_else_is_left_alone(tmp_path):
    scores = str(write_answers(tmp_path / "s", VIDEOS))
    write_page(scores, str(tmp_path / "p"))
    write_page(scores, str(tmp_path / "p"), limit=1)
    assert len(read(tmp_path / "p", "list")) == 1
    (tmp_path / "p" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no review page"):
        write_page(scores, str(tmp_path / "p"))
    with pytest.raises(OutputError, match="is no review page"):
        write_page(scores, scores)


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(OutputError, match="Nothing is at"):
        write_page(str(tmp_path / "none"), str(tmp_path / "p"))
    (tmp_path / "s").mkdir()
    with pytest.raises(OutputError, match=r"no run\.json"):
        write_page(str(tmp_path / "s"), str(tmp_path / "p"))
    write_scores(tmp_path / "s", [{"video_id": "a.mp4"}])
    (tmp_path / "s" / "videos" / "part-00000.parquet").write_bytes(b"no Parquet")
    with pytest.raises(OutputError, match="cannot be read"):
        write_page(str(tmp_path / "s"), str(tmp_path / "p"))
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/v/b c#1?.mp4", ["../v/b%20c%231%3F.mp4", "file:///a/v/b%20c%231%3F.mp4"]),
        ("s3://bucket/b.mp4", []),
        ("https://host/b.mp4", []),
    ],
)
def test_only_a_local_video_has_addresses_to_play_it_from(uri, expected):
    assert links(uri, "/a/page") == expected
