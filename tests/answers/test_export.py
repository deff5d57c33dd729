"""Exports are read back: by pandas, and by the packages that they are for where those are installed."""

import json
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

from dfd.cli import main
from dfd_core.answers.export import FORMATS, export
from dfd_core.answers.video_rows import TABLES, read_video_rows
from dfd_core.errors import OutputError
from dfd_core.storage.tables import read_table
from tests.answers.test_aggregate import finished, make, plan_row, result_row, two_people


@pytest.fixture
def scores(tmp_path):
    """A finished run: a video of two people, one without a face, one that failed, and one more with a face."""
    own = {"label": pa.array(["fake", None, "real", None]), "tags": pa.array([["a", "b"], [], None, []])}
    plans = [plan_row("two", 1), plan_row("none", 1), plan_row("lost", 0, error="empty"), plan_row("one", 1)]
    results = [
        result_row("two", 0, {}, num_frames=5) | {"faces": two_people(range(5), [0.1, 0.9, 0.9, 0.9, 0.1])},
        result_row("none", 0, {}, num_frames=3),
        result_row("one", 0, {7: [0.8]}),
    ]
    out = make(tmp_path / "scores", plans, results, own=own)
    finished(out)
    return out


def test_every_video_comes_with_its_own_rows_in_the_order_of_the_manifest(scores):
    found = list(read_video_rows(scores))
    assert [rows.video["video_id"] for rows in found] == ["v/two", "v/none", "v/lost", "v/one"]
    assert [(len(rows.faces), len(rows.tracks), len(rows.spans)) for rows in found] == [(10, 2, 1), (0, 0, 0), (0, 0, 0), (1, 1, 1)]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "read"), [("csv", pd.read_csv), ("jsonl", lambda path: pd.read_json(path, lines=True))]
)
def test_a_table_is_read_back_by_pandas(scores, tmp_path, kind, read):
    export(scores, kind, str(tmp_path / "out"))
    for name in TABLES:
        table = read_table(getattr(scores, name) / "part-00000.parquet")
        back = read(tmp_path / "out" / f"{name}.{kind}")
        assert list(back.columns) == table.column_names
        assert len(back) == table.num_rows
        if name != "videos":
            assert back["p_fake"].tolist() == pytest.approx(table.column("p_fake").to_pylist(), abs=1e-6)
    videos = read(tmp_path / "out" / f"videos.{kind}")
    tags = videos["tags"][0]
    assert (json.loads(tags) if kind == "csv" else tags) == ["a", "b"]
    assert videos["verdict"].isna().tolist() == [False, True, True, False]


def test_fiftyone_has_a_labels_file_for_every_video(scores, tmp_path):
    export(scores, "fiftyone", str(tmp_path / "out"))
    paths = json.loads((tmp_path / "out" / "data.json").read_text())
    assert list(paths.values()) == ["/videos/two", "/videos/none", "/videos/lost", "/videos/one"]
    assert sorted(file.stem for file in (tmp_path / "out" / "labels").iterdir()) == list(paths)
    labels = json.loads((tmp_path / "out" / "labels" / "0000000.json").read_text())
    (first, second) = labels["frames"]["26"]["objects"]["objects"]
    assert first["bounding_box"]["top_left"] == pytest.approx({"x": 100 / 640, "y": 50 / 480})
    assert second["bounding_box"]["bottom_right"]["x"] == 1.0  # the box leaves the frame
    assert (first["index"], second["index"]) == (0, 1)
    assert labels["events"]["events"][0]["support"] == {"ranges": "26-76"}


def test_label_studio_has_a_task_for_every_video_and_a_prediction_where_there_is_a_score(scores, tmp_path):
    export(scores, "label-studio", str(tmp_path / "out"))
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [task["data"]["video_id"] for task in tasks] == ["v/two", "v/none", "v/lost", "v/one"]
    assert [len(task.get("predictions", [])) for task in tasks] == [1, 0, 0, 1]
    assert tasks[0]["data"]["video"] == "/data/local-files/?d=videos/two"
    named = {tag.get("name") for tag in ElementTree.parse(tmp_path / "out" / "label_config.xml").iter()}
    (prediction,) = tasks[0]["predictions"]
    assert {region["from_name"] for region in prediction["result"]} <= named
    boxes = [
        region["value"]["sequence"] for region in prediction["result"] if region["type"] == "videorectangle"
    ]
    assert [len(sequence) for sequence in boxes] == [5, 5]
    assert all(0 <= box["x"] <= box["x"] + box["width"] <= 100 for sequence in boxes for box in sequence)


@pytest.mark.packages
def test_eta_which_fiftyone_reads_videos_with_reads_the_labels(scores, tmp_path):
    video = pytest.importorskip("eta.core.video", reason="voxel51-eta is not installed")
    export(scores, "fiftyone", str(tmp_path / "out"))
    labels = video.VideoLabels.from_json(str(tmp_path / "out" / "labels" / "0000000.json"))
    assert {attribute.name: attribute.value for attribute in labels.attrs}["label"] == "fake"
    faces = [found for number in labels for found in labels[number].objects]
    assert len(faces) == 10
    assert {found.index for found in faces} == {0, 1}
    assert [event.label for event in labels.events] == ["suspicious"]


@pytest.mark.packages
def test_label_studio_takes_the_predictions(scores, tmp_path):
    interface = pytest.importorskip(
        "label_studio_sdk.label_interface", reason="label-studio-sdk is not installed"
    )
    export(scores, "label-studio", str(tmp_path / "out"))
    labelling = interface.LabelInterface((tmp_path / "out" / "label_config.xml").read_text())
    labelling.validate()
    for task in json.loads((tmp_path / "out" / "tasks.json").read_text()):
        for prediction in task.get("predictions", []):
            assert labelling.validate_prediction(prediction)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_run_is_exported(tmp_path, kind):
    out = make(tmp_path / "scores", [], [])
    finished(out)
    assert not any(export(out, kind, str(tmp_path / "out")).values())


def test_a_folder_that_holds_something_is_not_written_to(scores, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="not an empty folder"):
        export(scores, "csv", str(tmp_path / "out"))


def test_a_run_without_tracks_is_refused_with_what_helps(scores, tmp_path):
    for folder in (scores.tracks, scores.spans):
        folder.fs.delete_dir(folder.path)
    with pytest.raises(OutputError, match="dfd aggregate"):
        export(scores, "csv", str(tmp_path / "out"))


def test_the_command_says_what_it_wrote(scores, tmp_path):
    done = CliRunner().invoke(
        main, ["export", str(scores.root), "--format", "jsonl", "--out", str(tmp_path / "x")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("4 videos, 11 faces, 3 tracks, 2 spans in ")
    done = CliRunner().invoke(
        main, ["export", str(tmp_path), "--format", "csv", "--out", str(tmp_path / "y")]
    )
    assert done.exit_code == 2
