"""Faces cut out once, and scored without their videos. In this process, on one Ray; the command itself where it is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd.commands import aggregate, score
from dfd.commands import faces as extract_faces
from dfd.commands.faces import ExtractFacesRequest
from dfd.commands.score import ScoreRequest
from dfd_core.config import Aggregation
from dfd_core.errors import OutputError, RequestError
from dfd_core.faces.images import decode, encode, resized
from dfd_core.schemas import FACE_IMAGES, FACE_VIDEOS, FACES, VIDEOS
from tests.commands.test_score import ROOT, faces_of, record_of, videos_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("ignore::ray.util.annotations.RayDeprecationWarning"),  # as a job does
]

MANIFEST = """uri,video_id,label,group
good_a.mp4,../../a,real,g
sub/good_b.mkv,b/b.mkv,fake,g
good_c.webm,c,,h
no_face.mp4,no_face,real,h
truncated.mp4,truncated,fake,h
text.mp4,text,fake,h
"""


def bundle(folder, input_size):
    """A network that no two different crops get past alike."""
    import keras

    keras.utils.set_random_seed(3)
    wild = keras.initializers.RandomNormal(stddev=0.3)
    layers = [
        keras.Input((input_size, input_size, 3)),
        keras.layers.Conv2D(4, 7, strides=5, activation="relu", kernel_initializer=wild),
        keras.layers.Flatten(),
        keras.layers.Dense(
            2, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=0.02)
        ),
    ]
    folder.mkdir()
    keras.Sequential(layers).save(folder / "model.keras")
    (folder / "card.json").write_text(json.dumps({"name": "wild", "input_size": input_size}))
    return str(folder)


def rows_of(folder):
    """The faces in the order of their keys."""
    rows = pq.read_table(folder / "faces").to_pylist()
    return sorted(rows, key=lambda row: (row["video_id"], row["frame_index"], row["face_index"]))


@pytest.fixture(scope="module")
def source(clip_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled") / "clips"
    shutil.copytree(clip_folder, folder)
    (folder / "manifest.csv").write_text(MANIFEST)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def faces(source, place, ray_cluster):
    """A folder of faces, and beside it the tree of PNG files."""
    out = place / "faces"
    assert extract_faces.run(ExtractFacesRequest(str(source), str(out), png=str(place / "tree"))) == 0
    return out


def test_every_video_has_a_row_and_every_face_a_picture_of_its_own_size(faces):
    own = [pa.field(name, pa.string()) for name in ("label", "group")]
    assert pq.read_table(faces / "faces").schema.equals(pa.schema([*FACE_IMAGES, *own]))
    assert pq.read_table(faces / "videos").schema.equals(pa.schema([*FACE_VIDEOS, *own]))
    statuses = {name: row["status"] for name, row in videos_of(faces).items()}
    assert statuses.pop("truncated") in ("partial", "failed")
    assert statuses == {
        "../../a": "extracted",
        "b/b.mkv": "extracted",
        "c": "extracted",
        "no_face": "no_face",
        "text": "failed",
    }
    rows = rows_of(faces)
    assert {row["label"] for row in rows} == {"real", "fake", None}
    for row in rows:
        height, width = decode(row["image"]).shape[:2]
        assert (width, height) == (
            min(row["right"], 10**6) - max(row["left"], 0),
            min(row["bottom"], 10**6) - max(row["top"], 0),
        )


def test_run_json_says_how_the_pictures_were_made(faces):
    record = record_of(faces)
    assert record["outcome"] == "complete"
    assert "model" not in record
    wanted = {"job": "extract_faces", "margin": 0.0, "image_format": "png", "sampling": "stride"}
    assert wanted.items() <= record["configuration"].items()
    assert record["counts"]["faces"] == len(rows_of(faces))
    assert "infer" not in record["stage_seconds"]


def test_the_tree_holds_the_same_pictures_and_nothing_lies_outside(faces, place):
    files = sorted(path.relative_to(place / "tree") for path in (place / "tree").rglob("*.png"))
    assert len(files) == len(rows_of(faces))
    assert {path.parts[0] for path in files} == {"real", "fake", "unlabelled"}
    assert {path.name for path in place.iterdir()} == {"faces", "tree"}
    contents = {(place / "tree" / path).read_bytes() for path in files}
    assert contents == {row["image"] for row in rows_of(faces)}


def scored_both_ways(faces, source, model, folder):
    """Output folders of scoring the videos and of scoring their faces, found to be equal."""
    outs = [folder / "videos", folder / "faces"]
    for given, out in zip((source, faces), outs, strict=True):
        assert score.run(ScoreRequest(str(given), model, str(out))) == 0
    for table, schema in (("videos", VIDEOS), ("faces", FACES)):
        of_videos, of_faces = (pq.read_table(out / table) for out in outs)
        assert of_faces.equals(of_videos)
        assert of_faces.schema.names[: len(schema)] == schema.names
    assert np.ptp([row["p_fake"] for row in faces_of(outs[1])]) > 1e-4, "a constant model would prove nothing"
    return outs


def test_scoring_the_faces_is_scoring_the_videos_at_any_size(faces, source, tmp_path):
    scored_both_ways(faces, source, bundle(tmp_path / "bundle", 160), tmp_path)


@pytest.mark.drill
def test_scored_faces_resume_and_are_tried_again_as_videos_are(faces, source, tmp_path):
    model = bundle(tmp_path / "bundle", 96)
    of_videos, out = scored_both_ways(faces, source, model, tmp_path)
    assert record_of(out)["configuration"]["source_kind"] == "faces"
    with pytest.raises(OutputError, match="source_kind was 'faces', now 'videos'"):
        score.run(ScoreRequest(str(source), model, str(out)))
    before = record_of(out)["throughput"]
    assert score.run(ScoreRequest(str(faces), model, str(out))) == 0
    assert record_of(out)["throughput"] == before, "the second time there is nothing to do"
    kinds = frozenset(["truncated", "damaged"])
    assert score.run(ScoreRequest(str(faces), model, str(out), retry_kinds=kinds)) == 0
    assert record_of(out)["throughput"]["segments"] == 1
    assert pq.read_table(out / "videos").equals(pq.read_table(of_videos / "videos"))


def test_pictures_that_the_model_cannot_use_are_refused_in_one_line(faces, tmp_path):
    wide = tmp_path / "wide"
    wide.mkdir()
    bundle(tmp_path / "bundle", 96)
    shutil.copy(tmp_path / "bundle" / "model.keras", wide)
    (wide / "card.json").write_text(json.dumps({"name": "wide", "input_size": 96, "margin": 0.3}))
    with pytest.raises(RequestError, match=r"margin of 0, the model expects 0\.3"):
        score.run(ScoreRequest(str(faces), str(wide), str(tmp_path / "out")))
    with pytest.raises(RequestError, match="sampled by stride"):
        score.run(
            ScoreRequest(str(faces), str(tmp_path / "bundle"), str(tmp_path / "out"), sampling="uniform:3")
        )
    with pytest.raises(RequestError, match="detected in frames as they are; --detect-max-side cannot be 640"):
        score.run(
            ScoreRequest(str(faces), str(tmp_path / "bundle"), str(tmp_path / "out"), detect_max_side_px=640)
        )
    with pytest.raises(RequestError, match="detected by dlib; --detector cannot be fast"):
        score.run(ScoreRequest(str(faces), str(tmp_path / "bundle"), str(tmp_path / "out"), detector="fast"))
    assert not (tmp_path / "out").exists()


def test_an_incomplete_folder_of_faces_is_refused(faces, tmp_path):
    shutil.copytree(faces, tmp_path / "faces")
    next((tmp_path / "faces" / "checkpoint" / "segments").iterdir()).unlink()
    with pytest.raises(RequestError, match=r"not complete: 0 videos are not planned and \d segments"):
        score.run(
            ScoreRequest(str(tmp_path / "faces"), "untrained:mobilenet_v3_small", str(tmp_path / "out"))
        )


def test_aggregating_faces_without_scores_is_refused(faces):
    with pytest.raises(OutputError, match="faces that were not scored"):
        aggregate.run(str(faces), Aggregation(), None)


def test_another_margin_in_the_same_folder_is_refused(faces, source):
    with pytest.raises(OutputError, match=r"margin was 0\.0, now 0\.2"):
        extract_faces.run(ExtractFacesRequest(str(source), str(faces), margin=0.2))


def test_the_detectors_frame_is_part_of_the_configuration(faces, source, tmp_path):
    with pytest.raises(OutputError, match="detect_max_side_px was None, now 300"):
        extract_faces.run(ExtractFacesRequest(str(source), str(faces), detect_max_side_px=300))
    made = tmp_path / "faces"
    shutil.copytree(faces, made)
    record = record_of(made)
    del record["configuration"]["detect_max_side_px"]  # as folders of before this option
    (made / "run.json").write_text(json.dumps(record))
    assert extract_faces.run(ExtractFacesRequest(str(source), str(made))) == 0


def test_a_table_made_elsewhere_is_scored_row_by_row(tmp_path):
    rng = np.random.default_rng(4)
    pictures = [rng.integers(0, 256, (50 + n, 60, 3), dtype=np.uint8) for n in range(5)]
    rows = [
        {"name": name, "label": label, "mine": number, "jpeg": encode(rgb, "png")}
        for number, (name, label, rgb) in enumerate(
            zip(["a", "b", "a", "c", "d"], ["real", "fake", "real", None, "fake"], pictures, strict=True)
        )
    ]
    rows.insert(1, rows[1] | {"jpeg": b"not a picture"})
    rows[-1]["jpeg"] = None
    (tmp_path / "table").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table" / "part.parquet")
    model = bundle(tmp_path / "bundle", 64)
    out = tmp_path / "out"
    assert score.run(ScoreRequest(str(tmp_path / "table"), model, str(out), precision="float32")) == 0
    import keras

    crops = np.stack([resized(rgb, 64) for rgb in pictures])
    p_fake = keras.models.load_model(f"{model}/model.keras")(crops / 255.0, training=False).numpy()[:, 0]
    found = {(row["video_id"], row["frame_index"]): row["p_fake"] for row in faces_of(out)}
    keys = [("a", 0), ("b", 1), ("a", 1), ("c", 0)]
    assert set(found) == set(keys)
    np.testing.assert_allclose([found[key] for key in keys], p_fake[:4], atol=1e-4)
    videos = videos_of(out)
    assert list(videos) == ["a", "b", "c", "d"]
    assert [row["status"] for row in videos.values()] == ["scored", "partial", "scored", "failed"]
    assert [row["error_kind"] for row in videos.values()] == [None, "undecodable", None, "undecodable"]
    assert [(row["label"], row["mine"]) for row in videos.values()] == [
        ("real", 0),
        ("fake", 1),
        (None, 3),
        ("fake", 4),
    ]
    assert videos["a"]["p_fake"] == pytest.approx(p_fake[[0, 2]].mean(), abs=1e-4)


@pytest.mark.drill
def test_a_killed_extraction_is_completed_by_the_same_command(faces, source, tmp_path):
    out = tmp_path / "faces"
    command = [sys.executable, "jobs/extract_faces.py", str(source), "--out", str(out)]
    log = open(tmp_path / "log", "wb")  # noqa: SIM115
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    deadline_s = time.monotonic() + 120
    committed = out / "checkpoint" / "segments"
    while not list(committed.glob("*")) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert record_of(out)["outcome"] == "running"
    log.close()
    assert extract_faces.run(ExtractFacesRequest(str(source), str(out))) == 0
    assert rows_of(out) == rows_of(faces)
    assert pq.read_table(out / "videos").equals(pq.read_table(faces / "videos"))
