"""The command writes a manifest, says what does not add up, and refuses what it cannot read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dfd.commands.manifest import main
from dfd_core.sources.videos import read_videos

ROOT = Path(__file__).resolve().parents[2]


def make_manifest(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@pytest.fixture
def celeb_df(tmp_path: Path) -> Path:
    root = tmp_path / "Celeb-DF-v2"
    for name in ("Celeb-real/id0_0000", "Celeb-synthesis/id0_id1_0000", "YouTube-real/00001", "extra/me"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.mp4").touch()
    lines = ["1 YouTube-real/00001.mp4", *(f"1 YouTube-real/9999{number}.mp4" for number in range(5))]
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines))
    return root


def test_a_manifest_is_written_and_disagreements_are_counted_and_named(
    celeb_df: Path, tmp_path: Path
) -> None:
    result = make_manifest(celeb_df, "--out", celeb_df / "m.parquet", "--report", tmp_path / "report.json")
    assert result.exit_code == 0, result.stderr
    assert "missing_file: 5" in result.stderr
    assert (
        "YouTube-real/99990.mp4, YouTube-real/99991.mp4, YouTube-real/99992.mp4 and 2 more" in result.stderr
    )
    assert "no_label: 1" in result.stderr
    assert "6 disagreements in all" in result.stderr
    assert "3 videos in 2 groups; the largest, celeb-df-v2:id0, holds 2" in result.stdout
    assert pq.read_table(celeb_df / "m.parquet").column("uri").to_pylist()[0] == "Celeb-real/id0_0000.mp4"
    assert read_videos(str(celeb_df / "m.parquet")).table.column("label").to_pylist() == [
        "real",
        "fake",
        "real",
    ]
    assert len(json.loads((tmp_path / "report.json").read_text())["disagreements"]) == 6


def test_unlabelled_videos_can_be_kept(celeb_df: Path) -> None:
    out = celeb_df / "m.csv"
    assert make_manifest(celeb_df, "--out", out, "--keep-unlabelled").exit_code == 0
    labels = read_videos(str(out)).table.select(["video_id", "label"]).to_pylist()
    assert labels[-1] == {"video_id": "extra/me.mp4", "label": None}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{root}", "--layout", "dfdc", "--out", "{root}/m.csv"], "Expected a metadata.json"),
        (["{root}", "--layout", "ucf", "--out", "{root}/m.csv"], "'ucf' is not one of"),
        (["{root}/nowhere", "--out", "{root}/m.csv"], "Expected a folder"),
        (["{root}", "--out", "{root}/m.txt"], "ends in .csv"),
        (["{root}/extra", "--out", "{root}/m.csv"], "Expected Celeb-real/"),
    ],
)
def test_what_cannot_be_read_is_status_2_without_a_traceback(
    celeb_df: Path, arguments, complaint: str
) -> None:
    result = make_manifest(*(argument.format(root=celeb_df) for argument in arguments))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert not (celeb_df / "m.csv").exists()


def test_a_dataset_without_one_usable_label_is_status_2(tmp_path: Path) -> None:
    (tmp_path / "real" / "fake").mkdir(parents=True)
    (tmp_path / "real" / "fake" / "a.mp4").touch()
    result = make_manifest(
        tmp_path, "--out", tmp_path / "m.csv", "--keep-unlabelled", "--report", tmp_path / "r.json"
    )
    assert result.exit_code == 2
    assert "contradictory_label: 1" in result.stderr
    assert not (tmp_path / "m.csv").exists()
    assert (tmp_path / "r.json").exists()


def test_the_command_runs_as_a_script_and_its_help_ends_in_examples() -> None:
    command = [sys.executable, str(ROOT / "jobs" / "make_manifest.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "python jobs/make_manifest.py" in result.stdout.rstrip().splitlines()[-1]
