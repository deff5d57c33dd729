import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.answers.face_folder import finish_faces, refuse_own_columns
from dfd_core.answers.png_tree import file_names, refuse_tree, write_png_tree
from dfd_core.errors import ManifestError, OutputError
from dfd_core.faces.images import decode, encode
from dfd_core.run import worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import FACE_IMAGES, FACE_VIDEOS, MANIFEST, SEGMENT_PICTURES, VIDEO_PLAN, to_table
from dfd_core.sources.pictures.face_folder import JOB
from dfd_core.sources.pictures.read import read_pictures
from dfd_core.storage.tables import write_table
from tests.answers.test_aggregate import plan_row, result_row
from tests.labelled_pictures import picture

HOSTILE = ["../../escape", "..", ".", "", "a/b.mp4", "a_b.mp4", "a\nb\x00", "A.mp4", "a.mp4", "é.mp4", "e\u0301.mp4", "x" * 300, "/etc/passwd", "~", "a_1", "con.mkv"]  # fmt: skip


@given(st.lists(st.text(max_size=300), unique=True, max_size=12) | st.permutations(HOSTILE))
def test_every_id_has_a_file_name_of_its_own_that_stays_in_the_folder(video_ids):
    names = file_names(video_ids)
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        whole = f"{name}_123456789-12.png"
        assert os.path.basename(whole) == whole
        assert len(whole.encode()) <= 255
        assert not name.startswith(".")
        assert not any(character in name for character in "/\0\n\r\\")


def test_an_ordinary_id_is_named_as_in_the_seed():
    assert file_names(["id0_id4_0002.mp4", "00001.mp4", "v1.2"]) == ["id0_id4_0002", "00001", "v1.2"]


def segment(key, position, image_format, frames, *, error=None):
    """`frames` maps a frame index to its number of faces."""
    row = result_row(key, position, {frame: [0.5] * count for frame, count in frames.items()}, error=error)
    del row["queue_s"], row["infer_s"], row["infer_cpu_s"], row["pictures"]
    for number, face in enumerate(row["faces"]):
        del face["p_fake"]
        face["image"] = encode(picture(is_fake=False, seed=number + position, side_px=20), image_format)
    return row | {"num_faces": len(row["faces"])}


def folder_of(tmp_path, videos, segments, *, image_format="png", error=None, **own):
    """A folder as jobs/extract_faces.py leaves it before its last step, with a data file that was never committed."""
    out = OutputFolder.at(str(tmp_path))
    keys = [f"k{n}" for n in range(len(videos))]
    table = {
        "manifest_row": range(len(videos)),
        "video_id": videos,
        "uri": [f"/videos/{n}" for n in range(len(videos))],
        "plan_key": keys,
        "size_bytes": pa.nulls(len(videos), pa.int64()),
        "modified_ns": pa.nulls(len(videos), pa.int64()),
    }
    manifest = pa.table(table).cast(MANIFEST)
    for name, values in own.items():
        manifest = manifest.append_column(name, pa.array(values))
    worklist.write_manifest(out, manifest)
    plans = [
        plan_row(key, len(parts), (error or {}).get(key)) for key, parts in zip(keys, segments, strict=True)
    ]
    write_table(out.plan_log.data / "a-0.parquet", to_table(plans, VIDEO_PLAN))
    write_table(out.plan_log.checkpoint / "a.parquet", pa.table({"plan_key": keys}))
    for key, parts in zip(keys, segments, strict=True):
        for position, (frames, fault) in enumerate(parts):
            row = to_table([segment(key, position, image_format, frames, error=fault)], SEGMENT_PICTURES)
            for commit in ("a", "b"):  # a second worker did the same
                write_table(out.segment_log.data / f"{key}{position}{commit}-0.parquet", row)
                committed = out.segment_log.checkpoint / f"{key}{position}{commit}.parquet"
                write_table(committed, row.select(["segment_id"]))
            write_table(out.segment_log.data / f"lost{key}{position}-0.parquet", row)
    worklist.list_segments(out, num_cpus=2)
    return out


def test_every_face_is_in_the_table_once_with_the_manifests_columns(tmp_path):
    out = folder_of(
        tmp_path,
        ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
        [[({0: 1, 30: 2}, None), ({60: 1}, None)], [({}, None)], [({5: 1}, "damaged")], []],
        error={"k3": "empty"},
        label=["real", "fake", None, "fake"],
        group=["g", "g", "h", "h"],
    )
    counts = finish_faces(out)
    assert counts.videos == {"extracted": 1, "no_face": 1, "partial": 1, "failed": 1}
    assert (counts.num_faces, counts.error_kinds) == (5, {"damaged": 1, "empty": 1})
    assert "infer" not in counts.stage_s
    own = [pa.field("label", pa.string()), pa.field("group", pa.string())]
    faces, videos = pq.read_table(out.faces.path), pq.read_table(out.videos.path)
    assert faces.schema.equals(pa.schema([*FACE_IMAGES, *own]))
    assert videos.schema.equals(pa.schema([*FACE_VIDEOS, *own]))
    found = sorted(
        (row["video_id"], row["frame_index"], row["face_index"], row["label"]) for row in faces.to_pylist()
    )
    assert found == [
        ("a.mp4", 0, 0, "real"),
        ("a.mp4", 30, 0, "real"),
        ("a.mp4", 30, 1, "real"),
        ("a.mp4", 60, 0, "real"),
        ("c.mp4", 5, 0, None),
    ]
    assert videos.column("status").to_pylist() == ["extracted", "no_face", "partial", "failed"]
    assert videos.column("num_faces").to_pylist() == [4, 0, 1, 0]
    for image in faces.column("image").to_pylist():
        assert decode(image).shape == (20, 20, 3)


def test_of_two_results_of_a_segment_the_table_and_who_scores_it_have_the_one_that_its_video_has(tmp_path):
    out = folder_of(tmp_path, ["a.mp4"], [[({0: 1}, None)]])
    late = segment("k0", 0, "png", {}, error="timeout") | {"extracted_at": -1.0}
    for name in ("0", "z"):  # before and after the others in the log
        table = to_table([late], SEGMENT_PICTURES)
        write_table(out.segment_log.data / f"{name}-0.parquet", table)
        write_table(out.segment_log.checkpoint / f"{name}.parquet", table.select(["segment_id"]))
    finish_faces(out)
    assert pq.read_table(out.videos.path).column("status").to_pylist() == ["extracted"]
    assert pq.read_table(out.faces.path).num_rows == 1
    refused = to_table([plan_row("k0", 0, "timeout")], VIDEO_PLAN)
    for name in ("0", "z"):
        write_table(out.plan_log.data / f"{name}-0.parquet", refused)
        write_table(out.plan_log.checkpoint / f"{name}.parquet", refused.select(["plan_key"]))
    made_with = {"job": JOB, "margin": 0.0, "image_format": "png", "sampling": "interval:1"}
    RunRecord.new(made_with, None).write(out)
    source = read_pictures(str(tmp_path))
    assert source.plans.column("error_kind").to_pylist() == [None]
    assert source.runs.column("num_frames").to_pylist() == [1]


def test_a_folder_without_a_face_has_its_tables(tmp_path):
    out = folder_of(tmp_path, ["a.mp4"], [[({}, None)]])
    finish_faces(out)
    assert pq.read_table(out.faces.path).schema.equals(FACE_IMAGES)
    assert pq.read_table(out.faces.path).num_rows == 0


def test_an_unfinished_folder_is_not_made_into_tables(tmp_path):
    out = folder_of(tmp_path, ["a.mp4"], [[({0: 1}, None)]])
    for file in Path(out.segment_log.checkpoint.path).iterdir():
        file.unlink()
    with pytest.raises(OutputError, match="1 segments are not done"):
        finish_faces(out)


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_the_tree_is_the_seeds_and_stays_inside_whatever_the_ids(tmp_path, image_format):
    labels = ["real", "fake", None] * len(HOSTILE)
    out = folder_of(
        tmp_path / "faces",
        HOSTILE,
        [[({0: 2}, None)]] * len(HOSTILE),
        image_format=image_format,
        label=labels[: len(HOSTILE)],
    )
    finish_faces(out)
    tree = tmp_path / "place" / "tree"
    assert write_png_tree(out, str(tree)) == 2 * len(HOSTILE)
    files = [path for path in tree.rglob("*") if path.is_file() and path.name != ".dfd-faces"]
    assert len(files) == 2 * len(HOSTILE)
    assert {path.parent.name for path in files} == {"real", "fake", "unlabelled"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["tree"]
    assert (tree / "real" / "con_0.png").exists()
    before = sorted(files)
    write_png_tree(out, str(tree))
    assert sorted(path for path in tree.rglob("*.png")) == before


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(OutputError, match="not empty"):
        refuse_tree(str(tmp_path))
    with pytest.raises(OutputError, match="cannot be used"):
        refuse_tree(str(tmp_path / "precious"))
    with pytest.raises(OutputError, match="local folder"):
        refuse_tree("s3://bucket/tree")
    refuse_tree(str(tmp_path / "absent"))


def test_a_column_with_the_name_of_a_faces_is_refused():
    manifest = pa.table({**{name: [] for name in MANIFEST.names}, "label": [], "image": [], "left": []})
    with pytest.raises(ManifestError, match="image, left have names"):
        refuse_own_columns(manifest)
