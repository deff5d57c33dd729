import itertools
import time

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from dfd_core.config import ExtractConfig, Limits
from dfd_core.errors import ManifestError
from dfd_core.faces.images import decode, resized
from dfd_core.run import commit_log, worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import FACE_RUN, MANIFEST, VIDEO_PLAN, check, face_crops, to_table
from dfd_core.sources.pictures import JOB, commit_plans, read_face_source
from dfd_core.stages.pictures import crop_pictures, pictures_of
from dfd_core.storage import address as storage
from tests.labelled_pictures import picture
from tests.labelled_pictures import rows as labelled_rows

CONFIG = ExtractConfig(crop_px=16, limits=Limits(max_pixels=64 * 64))


def write(path, rows, *, row_group_size=None, schema=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=row_group_size)
    return str(path)


def list_runs(source, folder):
    """The runs as scoring lists them, and what the list says of the work."""
    out = OutputFolder(str(folder))
    worklist.write_manifest(out, source.table)
    commit_plans(out, source)
    work = worklist.list_segments(out, num_cpus=2, runs=source.runs)
    return check(pq.read_table(out.segment_list), FACE_RUN).to_pylist(), work


def crops_of(source, folder):
    """`segment_id` → its row of face crops."""
    runs, _ = list_runs(source, folder)
    rows = [crop_pictures(run, pictures, CONFIG) for run, pictures in pictures_of(runs)]
    return {row["segment_id"]: row for row in to_table(rows, face_crops(16)).to_pylist()}


def faces_by_video(source, folder):
    names = dict(
        zip(*(source.table.column(name).to_pylist() for name in ("plan_key", "video_id")), strict=True)
    )
    found = {name: [] for name in names.values()}
    for row in crops_of(source, folder).values():
        found[names[row["plan_key"]]] += row["faces"]
    return found


@pytest.mark.parametrize("row_group_size", [1, 3, 1000])
def test_each_row_is_one_face_of_its_video(tmp_path, row_group_size):
    rows = labelled_rows(6, faces_per_video=3)
    shuffled = [rows[n * 7 % len(rows)] for n in range(len(rows))]
    source = read_face_source(write(tmp_path / "faces.parquet", shuffled, row_group_size=row_group_size))
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
    source = read_face_source(str(tmp_path / "faces"))
    assert source.table.num_rows == 1
    assert source.runs.column("num_rows").to_pylist() == [512, 288, 300]
    assert source.runs.column("first_position").to_pylist() == [0, 512, 800]
    assert source.runs.column("position").to_pylist() == [0, 1, 2]
    runs, work = list_runs(source, tmp_path / "out")
    assert (work.num_videos, work.num_segments, work.num_open, work.footage_s) == (1, 3, 3, 0.0)
    assert [run["segment_id"][-5:] for run in runs] == ["00000", "00001", "00002"]
    assert [len(pictures["faces"]) for _, pictures in pictures_of(runs)] == [512, 288, 300]


def test_a_folder_of_faces_named_relatively_is_found_by_workers_in_other_folders(tmp_path, monkeypatch):
    out = OutputFolder(str(tmp_path / "faces"))
    table = read_face_source(write(tmp_path / "faces.parquet", labelled_rows(1, faces_per_video=1)))
    list_runs(table, tmp_path / "faces")
    key = table.table.column("plan_key")[0].as_py()
    segment = pa.table({"segment_id": [f"{key}-00000"], "plan_key": [key], "num_frames": [1]})
    commit_log.append(out.checkpoint("segments"), out.results, segment)
    made_with = {"margin": 0.0, "image_format": "png", "sampling": "stride"}
    RunRecord.new({"job": JOB, **made_with}, None).write(out)
    monkeypatch.chdir(tmp_path)
    source = read_face_source("faces")
    monkeypatch.chdir("/")
    (address,) = source.runs.column("table").to_pylist()
    assert source.kind == "faces"
    assert pq.read_table(address).equals(segment)


def test_the_keys_stay_as_long_as_the_file_does(tmp_path):
    rows = labelled_rows(4)
    path = write(tmp_path / "faces.parquet", rows)
    keys = read_face_source(path).table.column("plan_key")
    assert read_face_source(path).table.column("plan_key").equals(keys)
    write(tmp_path / "faces.parquet", rows[1:])
    assert not pc.any(pc.is_in(read_face_source(path).table.column("plan_key"), value_set=keys)).as_py()


def test_other_keys_for_videos_that_are_tried_again_reach_plans_and_runs(tmp_path):
    source = read_face_source(write(tmp_path / "faces.parquet", labelled_rows(3, faces_per_video=2)))
    keys = source.table.column("plan_key").to_pylist()
    again = [keys[0], keys[1] + ".1", keys[2]]
    renamed = source.renamed(pa.chunked_array([again]))
    assert renamed.plans.column("plan_key").to_pylist() == again
    assert sorted(set(renamed.runs.column("plan_key").to_pylist())) == sorted(again)


def test_plans_are_committed_once(tmp_path):
    source = read_face_source(write(tmp_path / "faces.parquet", labelled_rows(3)))
    out = OutputFolder(str(tmp_path / "out"))
    commit_plans(out, source)
    commit_plans(out, source)
    assert len(commit_log.committed(out.checkpoint("plan"), "plan_key")) == 3
    commit_log.refuse_damage(out.checkpoint("plan"), out.plans, "plan_key")


def test_columns_of_faces_are_used_where_they_are_there(tmp_path):
    png = labelled_rows(1)[0]["jpeg"]
    box = {"left": -3, "top": 1, "right": 20, "bottom": 30}
    rows = [
        {
            "video_id": "v",
            "frame_index": 7,
            "face_index": 1,
            "time_s": 0.5,
            "detector_confidence": 2.0,
            **box,
        },
        {
            "video_id": "v",
            "frame_index": 7,
            "face_index": 0,
            "time_s": 0.5,
            "detector_confidence": 1.0,
            **box,
        },
        {"video_id": "v", "frame_index": 3, "face_index": 0, "time_s": None, "detector_confidence": None},
    ]
    source = read_face_source(write(tmp_path / "faces.parquet", [row | {"image": png} for row in rows]))
    assert source.runs.column("num_frames").to_pylist() == [2]
    (faces,) = faces_by_video(source, tmp_path / "out").values()
    found = [{name: face[name] for name in ("frame_index", "face_index", "time_s", "left")} for face in faces]
    assert found == [
        {"frame_index": 7, "face_index": 1, "time_s": 0.5, "left": -3},
        {"frame_index": 7, "face_index": 0, "time_s": 0.5, "left": -3},
        {"frame_index": 3, "face_index": 0, "time_s": 0.0, "left": 0},
    ]


def test_a_picture_that_does_not_decode_is_its_videos_error_and_no_other_faces(tmp_path):
    good = labelled_rows(1)[0]["jpeg"]
    large = decode(good).repeat(4, axis=0).repeat(4, axis=1)
    from dfd_core.faces.images import encode

    contents = {
        "good": [good],
        "half": [good, b"no picture"],
        "none": [None],
        "cut": [good[:40]],
        "large": [encode(large, "png")],
    }
    rows = [{"name": name, "image": image} for name, images in contents.items() for image in images]
    source = read_face_source(write(tmp_path / "faces.parquet", rows))
    rows = list(crops_of(source, tmp_path / "out").values())
    of_key = dict(zip(source.table.column("plan_key").to_pylist(), contents, strict=True))
    found = {
        of_key[row["plan_key"]]: (row["error_kind"], len(row["faces"]), row["num_frames"]) for row in rows
    }
    assert found == {
        "good": (None, 1, 1),
        "half": ("undecodable", 1, 1),
        "none": ("undecodable", 0, 0),
        "cut": ("undecodable", 0, 0),
        "large": ("too_large", 0, 0),
    }
    messages = {of_key[row["plan_key"]]: row["error_message"] for row in rows}
    assert messages["half"] == "The picture cannot be decoded (1 of 2 pictures)"


def test_a_table_that_goes_away_is_an_error_of_its_runs(tmp_path):
    path = tmp_path / "faces.parquet"
    runs, _ = list_runs(read_face_source(write(path, labelled_rows(3, faces_per_video=1))), tmp_path / "out")
    path.unlink()
    began_s = time.monotonic()
    kinds = [pictures["error_kind"] for _, pictures in pictures_of(runs)]
    assert kinds == ["storage"] * 3
    assert time.monotonic() - began_s < storage.RETRY_DELAYS_S[0]  # it does not come back by asking again


class Unsteady(LocalFileSystem):
    """Local files at `unsteady://` addresses, with an error for every `failing`th read until `failures` are used up."""

    protocol = "unsteady"
    failing, failures, opened = 0, 0, 0

    def _open(self, path, mode="rb", **options):
        kind = type(self)
        kind.opened += 1
        file = super()._open(path, mode, **options)
        read, count = file.read, itertools.count(1)

        def read_or_fail(*arguments):
            if kind.failures and next(count) % kind.failing == 0:
                kind.failures -= 1
                raise OSError("Connection reset by peer")
            return read(*arguments)

        file.read = read_or_fail
        return file


@pytest.fixture
def unsteady(tmp_path):
    """Runs of five videos in a table whose storage can be made to fail, and the same runs where it cannot."""
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    rows = labelled_rows(5, faces_per_video=30)
    path = write(tmp_path / "faces.parquet", rows, row_group_size=40)
    runs, _ = list_runs(read_face_source(path), tmp_path / "out")
    Unsteady.failing, Unsteady.failures, Unsteady.opened = 0, 0, 0
    return [run | {"table": "unsteady://" + run["table"]} for run in runs], runs


@pytest.mark.parametrize("failing", [1, 2, 5, 9])
def test_a_storage_that_fails_for_a_while_costs_no_run_and_doubles_none(unsteady, failing):
    runs, local = unsteady
    Unsteady.failing, Unsteady.failures = failing, 3
    found = list(pictures_of(runs, delays_s=(0, 0, 0)))
    assert Unsteady.failures == 0
    assert Unsteady.opened == 4
    assert [run for run, _ in found] == sorted(runs, key=lambda run: run["first_row"])
    assert [pictures for _, pictures in found] == [pictures for _, pictures in pictures_of(local)]
    assert {pictures["error_kind"] for _, pictures in found} == {None}


def test_a_storage_that_goes_on_failing_is_the_error_of_every_run_that_waits(unsteady):
    runs, _ = unsteady
    Unsteady.failing, Unsteady.failures = 9, 100
    found = list(pictures_of(runs, delays_s=(0, 0)))
    kinds = [pictures["error_kind"] for _, pictures in found]
    assert sorted(run["segment_id"] for run, _ in found) == sorted(run["segment_id"] for run in runs)
    assert kinds == sorted(kinds, key=lambda kind: kind is not None)
    assert kinds[-1] == "storage"
    assert found[-1][1]["error_message"] == "The storage failed: Connection reset by peer"


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
        read_face_source(write(tmp_path / "faces.parquet", rows))


def test_an_empty_table_is_refused(tmp_path):
    schema = pa.schema([("name", pa.string()), ("image", pa.binary())])
    with pytest.raises(ManifestError, match="no rows"):
        read_face_source(write(tmp_path / "faces.parquet", [], schema=schema))


def test_tables_of_different_columns_are_refused(tmp_path):
    write(tmp_path / "faces" / "a.parquet", [GOOD])
    write(tmp_path / "faces" / "b.parquet", [{"name": "a", "image": b"x"}])
    with pytest.raises(ManifestError, match="cannot be read"):
        read_face_source(str(tmp_path / "faces"))


def test_what_is_no_source_of_pictures_is_left_to_the_list_of_videos(tmp_path):
    manifest = write(tmp_path / "manifest.parquet", [{"uri": "a.mp4", "video_id": "a", "image": b"x"}])
    assert read_face_source(manifest) is None
    assert read_face_source(str(tmp_path / "nothing")) is None
    videos = tmp_path / "videos"
    write(videos / "faces.parquet", [GOOD])
    (videos / "a.mp4").write_bytes(b"x")
    (videos / "caf\udce9.mp4").write_bytes(b"x")
    assert read_face_source(str(videos)) is None
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not quite")
    assert read_face_source(str(tmp_path / "broken.parquet")) is None
    (videos / "run.json").write_text("somebody else's")
    assert read_face_source(str(videos)) is None


def test_videos_may_be_numbered_and_have_names_too(tmp_path):
    rows = [row | {"video_id": n // 2} for n, row in enumerate(labelled_rows(2, faces_per_video=2))]
    source = read_face_source(write(tmp_path / "faces.parquet", rows))
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
    source = read_face_source(str(tmp_path / "faces.parquet"))
    assert source.table.column("video_id").to_pylist() == ["a", "b"]
    assert source.table.column("note").to_pylist() == [1, 2]
    assert {name: len(faces) for name, faces in faces_by_video(source, tmp_path / "out").items()} == {
        "a": 2,
        "b": 1,
    }
