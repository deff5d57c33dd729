"""Folders of faces and tables of pictures as sources."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError
from dfd_core.faces.images import decode, resized
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import MANIFEST, VIDEO_PLAN, check
from dfd_core.sources.pictures.face_folder import JOB
from dfd_core.sources.pictures.read import read_pictures
from dfd_core.sources.source import commit_plans
from dfd_core.stages.pictures import pictures_of
from tests.labelled_pictures import picture
from tests.labelled_pictures import rows as labelled_rows
from tests.picture_tables import faces_by_video, list_runs, write


@pytest.mark.parametrize("row_group_size", [1, 3, 1000])
def test_each_row_is_one_face_of_its_video(tmp_path, row_group_size):
    rows = labelled_rows(6, faces_per_video=3)
    shuffled = [rows[n * 7 % len(rows)] for n in range(len(rows))]
    source = read_pictures(write(tmp_path / "faces.parquet", shuffled, row_group_size=row_group_size))
    assert source.kind == "face_table"
    check(source.plans, VIDEO_PLAN)
    assert source.table.schema.names == [*MANIFEST.names, "label", "group"]
    ids = source.table.column("video_id").to_pylist()
    assert ids == list(dict.fromkeys(row["name"] for row in shuffled))
    assert source.table.column("label").to_pylist() == [
        next(row["label"] for row in rows if row["name"] == video_id) for video_id in ids
    ]
    for video_id, faces in faces_by_video(source, tmp_path / "out").items():
        own = [row["jpeg"] for row in shuffled if row["name"] == video_id]
        expected = [resized(decode(image), 16).tobytes() for image in own]
        faces = sorted(faces, key=lambda face: face["frame_index"])
        assert [face["crop"] for face in faces] == expected
        assert [face["frame_index"] for face in faces] == [0, 1, 2]
        assert {(face["left"], face["top"], face["right"], face["bottom"]) for face in faces} == {
            (0, 0, 32, 32)
        }


def test_a_folder_of_tables_is_one_source_and_a_long_video_several_runs(tmp_path):
    rows = [row | {"name": "one"} for row in labelled_rows(2, faces_per_video=400) if row["label"] == "real"]
    write(tmp_path / "faces" / "b.parquet", rows[:300])
    write(tmp_path / "faces" / "a.parquet", rows * 2)
    source = read_pictures(str(tmp_path / "faces"))
    assert source.table.num_rows == 1
    assert source.runs.column("num_rows").to_pylist() == [512, 288, 300]
    assert source.runs.column("first_position").to_pylist() == [0, 512, 800]
    assert source.runs.column("position").to_pylist() == [0, 1, 2]
    runs, work = list_runs(source, tmp_path / "out")
    assert (work.num_videos, work.num_segments, work.num_open, work.footage_s) == (1, 3, 3, 0.0)
    assert [run["segment_id"][-5:] for run in runs] == ["00000", "00001", "00002"]
    assert [len(pictures["faces"]) for _, pictures in pictures_of(runs)] == [512, 288, 300]


def test_a_folder_of_faces_named_relatively_is_found_by_workers_in_other_folders(tmp_path, monkeypatch):
    out = OutputFolder.at(str(tmp_path / "faces"))
    table = read_pictures(write(tmp_path / "faces.parquet", labelled_rows(1, faces_per_video=1)))
    list_runs(table, tmp_path / "faces")
    key = table.table.column("plan_key")[0].as_py()
    segment = pa.table({"segment_id": [f"{key}-00000"], "plan_key": [key], "num_frames": [1]})
    out.segment_log.append(segment)
    made_with = {"margin": 0.0, "image_format": "png", "sampling": "stride"}
    RunRecord.new({"job": JOB, **made_with}, None).write(out)
    monkeypatch.chdir(tmp_path)
    source = read_pictures("faces")
    monkeypatch.chdir("/")
    (address,) = source.runs.column("table").to_pylist()
    assert source.kind == "faces"
    assert pq.read_table(address).equals(segment)


def test_the_keys_stay_as_long_as_the_file_does(tmp_path):
    rows = labelled_rows(4)
    path = write(tmp_path / "faces.parquet", rows)
    keys = read_pictures(path).table.column("plan_key")
    assert read_pictures(path).table.column("plan_key").equals(keys)
    write(tmp_path / "faces.parquet", rows[1:])
    assert not pc.any(pc.is_in(read_pictures(path).table.column("plan_key"), value_set=keys)).as_py()


def test_other_keys_for_videos_that_are_tried_again_reach_plans_and_runs(tmp_path):
    source = read_pictures(write(tmp_path / "faces.parquet", labelled_rows(3, faces_per_video=2)))
    keys = source.table.column("plan_key").to_pylist()
    again = [keys[0], keys[1] + ".1", keys[2]]
    renamed = source.renamed(pa.chunked_array([again]))
    assert renamed.plans.column("plan_key").to_pylist() == again
    assert sorted(set(renamed.runs.column("plan_key").to_pylist())) == sorted(again)


def test_plans_are_committed_once(tmp_path):
    source = read_pictures(write(tmp_path / "faces.parquet", labelled_rows(3)))
    out = OutputFolder.at(str(tmp_path / "out"))
    commit_plans(out, source.plans)
    commit_plans(out, source.plans)
    assert len(out.plan_log.committed()) == 3
    out.plan_log.refuse_damage()


GOOD = {"name": "a", "label": "real", "group": "g", "image": b"x"}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([GOOD, GOOD | {"name": None}], r"has no name of what it is taken from: row 2"),
        ([GOOD | {"name": ""}, GOOD], r"has no name of what it is taken from: row 1"),
        ([GOOD, GOOD | {"name": "b", "label": "true"}], "label other than real or fake: row 2"),
        ([GOOD, GOOD | {"label": "fake"}], "another label than the first of its video: row 2"),
        ([GOOD, GOOD | {"label": None}], "another label than the first of its video: row 2"),
        ([GOOD, GOOD | {"group": "h"}], "another group than the first of its video: row 2"),
        ([GOOD | {"p_fake": 0.5}], "p_fake have names that the results use"),
        ([GOOD | {"frame_index": 1, "face_index": 0}] * 2, "repeats a face of a frame: row 2"),
        ([GOOD | {"frame_index": None}, GOOD | {"frame_index": 1}], "has no frame_index: row 1"),
        ([GOOD | {"left": 0.5}], "cannot be read"),
        ([GOOD | {"left": 1 << 40}], "cannot be read"),
    ],
)
def test_a_table_that_breaks_the_rules_is_refused_by_row(tmp_path, rows, complaint):
    with pytest.raises(ManifestError, match=complaint):
        read_pictures(write(tmp_path / "faces.parquet", rows))


def test_an_empty_table_is_refused(tmp_path):
    schema = pa.schema([("name", pa.string()), ("image", pa.binary())])
    with pytest.raises(ManifestError, match="no rows"):
        read_pictures(write(tmp_path / "faces.parquet", [], schema=schema))


def test_tables_of_different_columns_are_refused(tmp_path):
    write(tmp_path / "faces" / "a.parquet", [GOOD])
    write(tmp_path / "faces" / "b.parquet", [{"name": "a", "image": b"x"}])
    with pytest.raises(ManifestError, match="cannot be read"):
        read_pictures(str(tmp_path / "faces"))


def test_what_is_no_source_of_pictures_is_left_to_the_list_of_videos(tmp_path):
    manifest = write(tmp_path / "manifest.parquet", [{"uri": "a.mp4", "video_id": "a", "image": b"x"}])
    assert read_pictures(manifest) is None
    assert read_pictures(str(tmp_path / "nothing")) is None
    videos = tmp_path / "videos"
    write(videos / "faces.parquet", [GOOD])
    (videos / "a.mp4").write_bytes(b"x")
    (videos / "caf\udce9.mp4").write_bytes(b"x")
    assert read_pictures(str(videos)) is None
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not quite")
    assert read_pictures(str(tmp_path / "broken.parquet")) is None
    (videos / "run.json").write_text("somebody else's")
    assert read_pictures(str(videos)) is None


def test_videos_may_be_numbered_and_have_names_too(tmp_path):
    rows = [row | {"video_id": n // 2} for n, row in enumerate(labelled_rows(2, faces_per_video=2))]
    source = read_pictures(write(tmp_path / "faces.parquet", rows))
    assert source.table.column("video_id").to_pylist() == ["0", "1"]
    assert source.table.column("name").to_pylist() == ["v000", "v001"]
    assert {name: len(faces) for name, faces in faces_by_video(source, tmp_path / "out").items()} == {
        "0": 2,
        "1": 2,
    }


def test_a_dictionary_of_names_and_a_struct_with_bytes_will_do(tmp_path):
    from dfd_core.faces.images import encode

    png = encode(picture(is_fake=True, seed=1), "png")
    names = pa.array(["a", "b", "a"]).dictionary_encode()
    images = pa.array([{"bytes": png, "path": "x.png"}] * 3)
    pq.write_table(pa.table({"id": names, "image": images, "note": [1, 2, 3]}), tmp_path / "faces.parquet")
    source = read_pictures(str(tmp_path / "faces.parquet"))
    assert source.table.column("video_id").to_pylist() == ["a", "b"]
    assert source.table.column("note").to_pylist() == [1, 2]
    assert {name: len(faces) for name, faces in faces_by_video(source, tmp_path / "out").items()} == {
        "a": 2,
        "b": 1,
    }
