"""The command: a report for what can be judged, one line for what cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dfd.commands.evaluate import main
from tests.scored_folder import many_videos, write_scores

ROOT = Path(__file__).resolve().parents[2]


def evaluate(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "scores", many_videos())


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.csv"
    rows = [f"{v['video_id']},{v['label']},{v['group']}" for v in many_videos()[:60]]
    path.write_text("\n".join(["uri,label,group", *rows, "gone.mp4,real,g"]))
    return path


def test_scores_that_carry_labels_need_nothing_else(scores: Path, tmp_path: Path) -> None:
    result = evaluate(scores, "--out", tmp_path / "deep" / "report", "--resamples", 50)
    assert result.exit_code == 0, result.stderr
    assert "videos: 56 real, 56 fake" in result.stdout
    assert "undecided videos, in no figure: 8" in result.stdout
    values = json.loads((tmp_path / "deep" / "report" / "metrics.json").read_text())
    assert values["labels"] is None
    assert values["bootstrap"] == {"resamples": 50, "seed": 0, "confidence": 0.95, "unit": "group"}
    assert (tmp_path / "deep" / "report" / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_manifest_judges_its_own_videos_and_what_is_missing_is_named(
    scores: Path, manifest: Path, tmp_path: Path
) -> None:
    result = evaluate(
        scores, "--labels", manifest, "--out", tmp_path / "r", "--resamples", 20, "--threshold", "fpr:0.1"
    )
    assert result.exit_code == 0, result.stderr
    assert "60 labelled videos" in result.stderr
    assert "1 label is of a video that was not scored: 'gone.mp4'" in result.stderr
    assert "60 scored videos have no label" in result.stderr
    assert "chosen by fpr:0.1 on the very videos" in result.stderr
    values = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert values["join"]["labels_without_scores"] == ["gone.mp4"]
    confusion = values["parts"][0]["confusion"]
    assert confusion["real_called_fake"] <= 0.1 * (
        confusion["real_called_real"] + confusion["real_called_fake"]
    )


def test_the_same_command_writes_the_same_bytes(scores: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert evaluate(scores, "--out", tmp_path / name, "--resamples", 20).exit_code == 0
    for file in ("metrics.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["metrics.json", "report.html"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{tmp}/nowhere"], "Nothing is at"),
        (["{tmp}"], "no run.json"),
        (["{scores}", "--labels", "{tmp}/nowhere.csv"], "Nothing is at the source"),
        (["{scores}", "--labels", "{tmp}/bad.csv"], "has a label other than"),
        (["{scores}", "--labels", "{tmp}/other.csv"], "No label is of a scored video"),
        (["{scores}", "--labels", "{tmp}/unlabelled.csv"], "Expected a column 'label'"),
        (["{scores}", "--threshold", "best"], "Expected a threshold from 0 to 1, eer"),
        (["{scores}", "--out", "{tmp}/file"], "cannot be written"),
        (["{scores}", "--resamples", "0"], "Invalid value for '--resamples'"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_status_2(
    scores: Path, tmp_path: Path, arguments, complaint
) -> None:
    (tmp_path / "bad.csv").write_text("uri,label\nv001.mp4,FAKE\n")
    (tmp_path / "other.csv").write_text("uri,label\nx.mp4,real\n")
    (tmp_path / "unlabelled.csv").write_text("uri\nv001.mp4\n")
    (tmp_path / "file").write_text("")
    arguments = [argument.format(tmp=tmp_path, scores=scores) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "report")]
    result = evaluate(*arguments, *(["--resamples", 10] if "--resamples" not in arguments else []))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert sum(" ERROR " in line for line in result.stderr.splitlines()) <= 1
    assert not (tmp_path / "report").exists()


def test_the_command_runs_as_a_script_whose_help_ends_in_examples_and_loads_no_model_runtime() -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "jobs" / "evaluate.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "python jobs/evaluate.py" in result.stdout.rstrip().splitlines()[-1]
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "dfd_core.evaluation.report" in loaded
    assert not {"ray", "tensorflow", "keras", "av", "dlib"} & loaded
