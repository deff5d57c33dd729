"""One video, from Python and from the command line, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dfd_core
from dfd.one_video import in_words
from dfd_core.errors import RequestError
from dfd_core.one_video import VideoScore, score_video
from dfd_core.schemas import FACES, VIDEOS
from tests.reference import seed_loop

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def scored(clip_folder: Path) -> VideoScore:
    return score_video(clip_folder / "good_a.mp4")


def test_the_faces_are_the_seeds_loop_over_every_frame(scored: VideoScore, clip_folder: Path) -> None:
    assert scored.faces.schema.equals(FACES)
    names = ("frame_index", "left", "top", "right", "bottom")
    mine = [tuple(face[name] for name in names) for face in scored.faces.to_pylist()]
    assert mine == [(index, *box) for index, box, _ in seed_loop(clip_folder / "good_a.mp4")]
    assert mine


def test_the_score_is_the_mean_over_the_frames_and_its_row_is_that_of_videos(scored: VideoScore) -> None:
    frames: dict[int, float] = {}
    for face in scored.faces.to_pylist():
        frames[face["frame_index"]] = max(frames.get(face["frame_index"], 0.0), face["p_fake"])
    assert scored.p_fake == pytest.approx(np.mean(list(frames.values())), abs=1e-6)
    assert list(scored.video) == VIDEOS.names
    assert scored.status == "scored"


def test_the_most_suspicious_faces_come_first_one_of_each_frame(scored: VideoScore) -> None:
    found = [(face["p_fake"], face["frame_index"]) for face in scored.most_suspicious(2)]
    assert len(found) == 2
    assert found == sorted(found, reverse=True)
    assert found[0][0] == max(scored.faces.column("p_fake").to_pylist())
    assert len({frame for _, frame in found}) == 2


def test_a_broken_video_is_a_failed_row_and_its_reason_is_told(clip_folder: Path) -> None:
    score = score_video(clip_folder / "text.mp4", model="untrained:mobilenet_v3_small")
    assert (score.status, score.p_fake, score.verdict) == ("failed", None, None)
    assert score.video["error_kind"] == "not_a_video"
    assert score.most_suspicious() == []
    assert "not_a_video: " in in_words(score)


def test_a_folder_is_not_one_video(clip_folder: Path) -> None:
    with pytest.raises(RequestError, match="Expected one video"):
        score_video(clip_folder)


def test_importing_the_library_loads_none_of_it() -> None:
    code = "import sys, dfd_core; print(*(set(sys.modules) & {'pyarrow', 'numpy', 'duckdb', 'dfd_core.one_video'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert dfd_core.score_video is score_video
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = dfd_core.nothing_such


def dfd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "dfd", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_prints_one_row_and_the_frames_and_loads_no_ray(
    clip_folder: Path, scored: VideoScore
) -> None:
    done = dfd("score", clip_folder / "good_a.mp4")
    assert done.returncode == 0, done.stderr
    header, row, *words = done.stdout.splitlines()
    assert header.split() == ["video", "status", "verdict", "p_fake", "frames", "faces", "duration"]
    assert row.split()[:2] == ["good_a.mp4", "scored"]
    assert row.split()[3] == f"{scored.p_fake:.3f}"
    first = words.index("Most suspicious frames:") + 1
    assert words[first].startswith("  at 0:0")
    own = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert own == []
    assert "| ray\n" not in done.stderr


def test_its_json_is_the_row_of_videos_and_the_faces(clip_folder: Path, scored: VideoScore) -> None:
    done = dfd("score", clip_folder / "good_a.mp4", "--json")
    values = json.loads(done.stdout)
    assert values.pop("most_suspicious") == scored.most_suspicious()
    assert values == scored.video


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["."], "need an output folder: --out OUT"),
        (["good_a.mp4", "--estimate"], "--estimate needs an output folder"),
    ],
)
def test_what_needs_a_folder_is_refused_without_one(
    clip_folder: Path, arguments: list[str], complaint: str
) -> None:
    done = dfd("score", clip_folder / arguments[0], *arguments[1:])
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_video_is_exit_status_1(clip_folder: Path) -> None:
    assert dfd("score", clip_folder / "empty.mp4").returncode == 1
