"""The command on generated pictures: a bundle that scores, what is refused, and what survives a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dfd.archive import folder
from dfd.commands import finetune
from dfd.commands.finetune import _request, main, with_recipe
from dfd_core.model.card import load_card
from dfd_core.model.source import resolve_model
from dfd_core.training.settings import TrainingSettings
from tests import labelled_pictures

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--backbone",
    "small_resnet",
    "--weights",
    "none",
    "--input-size",
    32,
    "--learning-rate",
    1e-3,
    "--batch-size",
    16,
    "--precision",
    "float32",  # on a CPU with bfloat16 the card's figures would be of that
]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def command(*arguments):
    return [sys.executable, str(ROOT / "jobs" / "finetune.py"), *map(str, arguments)]


def refused(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(line for line in result.stderr.splitlines() if " ERROR " in line or "Error:" in line)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A bundle of two workers and two epochs, with what the command printed."""
    folder = tmp_path_factory.mktemp("finetune")
    rows = labelled_pictures.rows(60)
    rows[4] = {**rows[4], "jpeg": b"no picture"}
    rows += [{**rows[0], "name": "unlabelled", "label": None}, rows[9]]
    source = labelled_pictures.write_table(folder / "faces" / "part-0.parquet", rows).parent
    arguments = [
        source,
        "--out",
        folder / "bundle",
        *SMALL,
        "--workers",
        2,
        "--epochs",
        3,
        "--checkpoint-every-steps",
        2,
    ]
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, arguments, done


@pytest.mark.drill
def test_the_bundle_holds_everything_and_nothing_else(trained):
    folder, _, done = trained
    names = {path.name for path in (folder / "bundle").iterdir()}
    assert names - {".lock"} == {
        *("model.keras", "card.json", "history.csv", "logs", "curves.png", "confusion.png", "run.json")
    }
    for name in ("curves.png", "confusion.png"):
        assert (folder / "bundle" / name).read_bytes().startswith(b"\x89PNG")
    assert len((folder / "bundle" / "history.csv").read_text().splitlines()) == 4
    assert list((folder / "bundle" / "logs" / "validation").iterdir())
    run = json.loads((folder / "bundle" / "run.json").read_text())
    assert run["outcome"] == "complete"
    assert len(run["model"]["workers"]) == 2
    assert len({worker["pid"] for worker in run["model"]["workers"]}) == 2
    assert "epoch 3 of at most 3: loss" in done.stderr
    assert "jobs/score.py VIDEOS --model" in done.stdout
    noise = [line for line in done.stderr.splitlines() if line[2:3] != ":"]
    assert noise == []


@pytest.mark.drill
def test_the_card_says_what_was_done_with_what(trained):
    card = load_card(trained[0] / "bundle")
    data = card.training["data"]
    assert data["left_out"] == {"unlabelled": 1, "undecodable": 1, "repeated": 1}
    assert set(data["audit"].values()) == {0}
    total = {name: data["train"][name] + data["validation"][name] for name in data["train"]}
    assert total == {"groups": 30, "videos_real": 30, "videos_fake": 30, "faces_real": 59, "faces_fake": 60}
    assert data["validation"]["videos_real"] == data["validation"]["videos_fake"] == 6
    assert (
        data["train"]["faces_real"]
        + data["train"]["faces_fake"]
        + data["faces_repeated_to_fill_the_last_step"]
    ) % 16 == 0
    assert card.training["settings"]["augmentation"].startswith("flip=0.5")
    assert card.trained
    assert card.calibration["kind"] == "temperature"
    assert card.metrics["video"]["num_real"] == card.metrics["video"]["num_fake"] == 6
    assert {"value", "low", "high"} <= card.metrics["video"]["figures"]["roc_auc"].keys()
    assert card.versions["ray"]


@pytest.mark.drill
def test_the_scores_of_the_bundle_are_those_that_its_card_was_made_from(trained):
    """The predictor over the validation pictures gives the card's figures, so that training and scoring agree."""
    from sklearn.metrics import log_loss, roc_auc_score

    from dfd_core.faces.images import decode, resized
    from dfd_core.model.predictor import load_predictor

    folder, _, _ = trained
    card = load_card(folder / "bundle")
    predict = load_predictor(resolve_model(folder / "bundle"), precision="float32")
    rows = labelled_pictures.rows(60)
    del rows[4]
    p_fake = predict(np.stack([resized(decode(row["jpeg"]), 32) for row in rows]))
    labels, scores = validation_videos(rows, p_fake, card.training["settings"])
    figures = card.metrics["video"]["figures"]
    assert roc_auc_score(labels, scores) == pytest.approx(figures["roc_auc"]["value"], abs=1e-6)
    assert log_loss(labels, scores) == pytest.approx(figures["log_loss"]["value"], rel=1e-3)


def validation_videos(rows, p_fake, settings):
    """Return labels and scores of the validation videos, found by splitting again with the recorded seed."""
    import hashlib

    import pandas as pd

    from dfd_core.training.face_index import face_key
    from dfd_core.training.splits import split_by_group

    table = pd.DataFrame(
        {
            "face_key": [face_key(row["name"], row["jpeg"]) for row in rows],
            "image_hash": [hashlib.blake2b(row["jpeg"], digest_size=16).digest() for row in rows],
            "video_id": [row["name"] for row in rows],
            "group": [row["group"] for row in rows],
            "is_fake": [row["label"] == "fake" for row in rows],
            "p_fake": p_fake.astype(float),
        }
    ).sort_values("face_key", ignore_index=True)
    split = split_by_group(table, validation=settings["validation"], seed=settings["seed"])
    videos = table[split.is_validation].groupby("video_id").agg({"is_fake": "first", "p_fake": "mean"})
    return videos["is_fake"].to_numpy(), videos["p_fake"].to_numpy()


@pytest.mark.drill
def test_the_same_command_again_does_nothing_and_another_is_refused(trained):
    folder, arguments, _ = trained
    before = (folder / "bundle" / "card.json").stat().st_mtime_ns
    again = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert again.exit_code == 0, again.stderr
    assert "nothing is left to do" in again.stderr
    assert (folder / "bundle" / "card.json").stat().st_mtime_ns == before
    assert "learning_rate was 0.001, now 0.01" in refused(*arguments, "--learning-rate", 0.01)
    assert "is complete, with --epochs 3" in refused(*arguments, "--epochs", 5)


@pytest.mark.drill
def test_raw_scores_are_the_models_own_and_never_in_one_folder_with_calibrated_ones(trained):
    from dfd_core.faces.images import decode, resized
    from dfd_core.model.predictor import load_predictor

    folder, arguments, _ = trained
    out = folder / "raw"
    score = [
        sys.executable,
        ROOT / "jobs" / "score.py",
        arguments[0],
        "--model",
        folder / "bundle",
        "--out",
        out,
    ]
    done = subprocess.run(
        [*map(str, score), "--raw", "--precision", "float32"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    videos = pq.read_table(out / "videos").to_pandas().set_index("video_id")
    pictures = [row["jpeg"] for row in labelled_pictures.rows(60) if row["name"] == "v010"]
    predict = load_predictor(resolve_model(folder / "bundle", raw=True), precision="float32")
    expected = predict(np.stack([resized(decode(picture), 32) for picture in pictures])).mean()
    assert videos.loc["v010", "p_fake"] == pytest.approx(expected, abs=1e-5)
    card = load_card(folder / "bundle")
    run = json.loads((out / "run.json").read_text())
    assert run["configuration"]["raw"] is True
    assert run["model"]["threshold"] == pytest.approx(card.uncalibrated().threshold) != card.threshold
    mixed = subprocess.run(
        [*map(str, score), "--precision", "float32"], capture_output=True, text=True, timeout=100, check=False
    )
    assert mixed.returncode == 2
    assert "raw was True, now None" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{tmp}/nowhere"], "Nothing is at"),
        (["{tmp}/empty"], "make_manifest.py"),
        (["{tmp}/videos.csv"], "--faces"),
        (["{tmp}/unlabelled.parquet"], "no column label"),
        (["{faces}", "--backbone", "resnet9000"], "Unknown backbone"),
        (["{faces}", "--workers", "3"], "a multiple of the 3 workers"),
        (["{faces}", "--augment", "sepia=1"], "NAME=P"),
        (["{faces}", "--threshold", "best"], "eer, youden"),
        (["{faces}", "--weights", "{tmp}/none.keras"], "There are no weights"),
        (["{tmp}/nowhere", "--weights", "file://{tmp}/empty"], "Nothing is at"),
        (["{faces}", "--sampling", "often"], "Expected sampling"),
        (["{tmp}", "--margin", "0.5"], "cut out with a margin of 0.25; --margin cannot be 0.5"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(tmp_path, arguments, complaint):
    source = labelled_pictures.write_table(tmp_path / "faces" / "a.parquet", labelled_pictures.rows(4)).parent
    made_with = {"configuration": {"margin": 0.25, "sampling": "stride"}}
    (tmp_path / "run.json").write_text(json.dumps(made_with))
    (tmp_path / "empty").mkdir()
    (tmp_path / "videos.csv").write_text("uri,label\na.mp4,real\nb.mp4,fake\n")
    rows = [{k: v for k, v in row.items() if k != "label"} for row in labelled_pictures.rows(4)]
    labelled_pictures.write_table(tmp_path / "unlabelled.parquet", rows)
    arguments = [argument.format(tmp=tmp_path, faces=source) for argument in arguments]
    assert complaint in refused(*arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "card.json").exists()


def settings_of(*arguments):
    context = main.make_context("finetune", ["faces", "--out", "bundle", "--weights", "none", *arguments])
    return _request(with_recipe(context.params, context)).settings


def test_a_recipe_sets_what_the_command_line_does_not():
    robust = settings_of("--recipe", "robust", "--label-smoothing", "0", "--learning-rate", "1e-5")
    assert settings_of() == TrainingSettings(weights="none")
    assert (robust.optimizer, robust.lr_schedule, robust.weight_decay) == ("adamw", "cosine", 0.03)
    assert (robust.label_smoothing, robust.learning_rate) == (0.0, 1e-5)
    assert robust.augmentation.self_blend > 0 < robust.augmentation.h264
    assert TrainingSettings.from_json(robust.to_json()) == robust


def test_the_help_ends_in_examples_and_loads_no_model_runtime():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "jobs" / "finetune.py"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "python jobs/finetune.py" in result.stdout.rstrip().splitlines()[-1]
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert not {"ray", "tensorflow", "keras", "av", "dlib"} & loaded


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_diverges_is_one_line_and_status_2_without_another_attempt(tmp_path, workers):
    source = labelled_pictures.write_table(tmp_path / "faces" / "a.parquet", labelled_pictures.rows(60))
    arguments = [source.parent, "--out", tmp_path / "bundle", *SMALL, "--precision", "float32"]
    arguments += ["--learning-rate", 1e38, "--optimizer", "sgd", "--workers", workers]
    done = subprocess.run(
        command(*arguments, "--checkpoint-every-steps", 2),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert "The training diverged in its first epoch" in line
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "bundle" / "work").glob("ray/training"))
    assert not (tmp_path / "bundle" / "card.json").exists()


@pytest.mark.drill
def test_a_manifest_of_videos_has_its_faces_extracted_first(tmp_path):
    from tests.clips import astronaut_frames, write_clip

    lines = ["uri,label,group"]
    for number in range(8):
        frames = astronaut_frames(3, zoom=1 + number / 20)
        name, label = f"v{number}.mp4", "fake" if number % 2 else "real"
        write_clip(tmp_path / name, frames)
        lines.append(f"{name},{label},g{number // 2}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    done = subprocess.run(
        command(
            *(tmp_path / "manifest.csv", "--faces", tmp_path / "faces", "--out", tmp_path / "bundle", *SMALL),
            *(
                "--epochs",
                1,
                "--margin",
                0.25,
                "--validation",
                0.5,
                "--threshold",
                0.5,
                "--calibration",
                "none",
            ),
        ),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    card = load_card(tmp_path / "bundle")
    assert (card.margin, card.sampling, card.threshold, card.calibration) == (0.25, "stride", 0.5, None)
    data = card.training["data"]
    assert data["train"]["videos_real"] + data["validation"]["videos_real"] == 4
    assert (tmp_path / "faces" / "run.json").exists()


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_killed_worker_and_a_killed_driver_cost_no_more_than_the_steps_since_the_last_checkpoint(tmp_path):
    source = labelled_pictures.write_table(
        tmp_path / "faces" / "a.parquet", labelled_pictures.rows(160)
    ).parent
    arguments = command(
        *(source, "--out", tmp_path / "bundle", *SMALL, "--batch-size", 4),
        *("--workers", 2, "--epochs", 2, "--checkpoint-every-steps", 5, "--seed", 3),
    )
    log = tmp_path / "log"
    checkpoints = tmp_path / "bundle" / "work" / "ray" / "training"
    with log.open("w") as stderr:
        driver = subprocess.Popen(arguments, stderr=stderr, stdout=stderr)
        wait_for(driver, lambda: steps(checkpoints) >= 5)
        worker = workers(driver)[0]
        killed_at = steps(checkpoints)
        os.kill(worker, signal.SIGKILL)
        wait_for(
            driver,
            lambda: steps(checkpoints) > killed_at and workers(driver) and worker not in workers(driver),
        )
        killed_at = steps(checkpoints)
        children = descendants(driver.pid)
        driver.kill()
        driver.wait()
        for pid in children:  # Ray ends them by itself, a little later
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert not (tmp_path / "bundle" / "card.json").exists()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Reading and checking the faces" not in done.stderr  # it went on
    rows = (tmp_path / "bundle" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]
    first = [line for line in done.stderr.splitlines() if ", step " in line][:1]
    if first:
        assert killed_at <= steps_told(first[0])
    attempts = json.loads((tmp_path / "bundle" / "run.json").read_text())["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["running", "complete"]
    assert not (tmp_path / "bundle" / "work").exists()


STEPS_PER_EPOCH = 64


def steps(checkpoints: Path) -> int:
    """Steps that the newest whole checkpoint has behind it."""
    found = [0]
    for path in checkpoints.glob("checkpoint_*/state.json"):
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        found.append(state["epoch"] * STEPS_PER_EPOCH + state["step"])
    return max(found)


def steps_told(line: str) -> int:
    words = line.replace(",", "").split()
    epoch, step = (int(words[words.index(name) + 1]) for name in ("epoch", "step"))
    return (epoch - 1) * STEPS_PER_EPOCH + step


def workers(driver: subprocess.Popen) -> list[int]:
    return [pid for pid in descendants(driver.pid) if "RayTrainWorker" in command_line(pid)]


def descendants(root: int) -> list[int]:
    """Return the processes below `root`, with Ray's raylet among them."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_for(driver: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert driver.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_lost_its_folder_leaves_the_others_record(tmp_path, monkeypatch):
    """The training goes on while another run takes a remote folder over; the beat of the lock is 5 s."""
    from dfd_core.storage.address import Address
    from dfd_core.storage.files import read_bytes, write_bytes

    source = labelled_pictures.write_table(tmp_path / "faces" / "a.parquet", labelled_pictures.rows(4)).parent
    out = Address.parse(f"memory://{tmp_path.name}/bundle")

    def take_over(*_):
        write_bytes(out / ".lock", b"another 1\n")
        write_bytes(out / "run.json", b'{"theirs": true}')
        time.sleep(60)  # until the interrupt

    monkeypatch.setattr(finetune, "_train", take_over)
    monkeypatch.setattr(folder, "_taken_over", threading.Event())
    with pytest.raises(KeyboardInterrupt):
        finetune.run(finetune.FinetuneRequest(str(source), out.uri))
    assert read_bytes(out / "run.json") == b'{"theirs": true}'
