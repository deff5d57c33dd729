"""Copies of one clip are found by the hashes in the log, whatever was done to them."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from dfd.cli import main
from dfd.commands.demo_archive import portrait
from dfd_core.answers.duplicates import _turns, find_duplicates
from dfd_core.config import Sampling
from dfd_core.errors import OutputError
from dfd_core.run.database import database
from dfd_core.schemas import DUPLICATES
from dfd_core.stages.plan import sampled_frames
from dfd_core.storage.tables import read_table
from dfd_core.video.reader import decode_frames, index_frames
from dfd_core.video.shots import look_of, perceptual_hash
from tests.answers.test_aggregate import finished, make, plan_row, result_row

GREY = cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY)


def scenes(count, frames=5, seed=0):
    """Return hashes of clips that have nothing in common."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 2**64, (count, frames), dtype=np.uint64).tolist()


def off_by(hashes, bits):
    return [number ^ ((1 << bits) - 1) << 7 for number in hashes]


def run_of(tmp_path, clips, scores=None):
    """Return the output folder of a finished run: `clips` maps a key to the hashes of its frames."""
    scores = scores or {}
    results = [
        result_row(key, 0, {0: [scores.get(key, 0.1)]}) | {"frame_hashes": hashes}
        for key, hashes in clips.items()
    ]
    out = make(tmp_path, [plan_row(key, 1) for key in clips], results)
    finished(out)
    return out


def groups(out):
    found = find_duplicates(out)
    assert found.schema.equals(DUPLICATES)
    rows = found.to_pylist()
    numbers = sorted({row["group_id"] for row in rows})
    return [{row["video_id"].removeprefix("v/") for row in rows if row["group_id"] == n} for n in numbers]


def test_copies_are_a_group_and_other_clips_are_in_none(tmp_path):
    one, other, third = scenes(3)
    clips = {"a": one, "b": off_by(one, 3), "c": other, "d": one[:1], "e": third[:2] + one[:1]}
    assert groups(run_of(tmp_path, clips)) == [{"a", "b", "d"}]


def test_a_copy_of_a_copy_is_in_the_group(tmp_path):
    (one,) = scenes(1)
    clips = {"a": one, "b": off_by(one, 3), "c": [number ^ 0b111 << 40 for number in off_by(one, 3)]}
    assert groups(run_of(tmp_path, clips)) == [{"a", "b", "c"}]


def test_groups_whose_verdicts_disagree_come_first(tmp_path):
    one, other = scenes(2)
    clips = {"a1": one, "a2": one, "a3": one, "b1": other, "b2": other}
    out = run_of(tmp_path, clips, scores={"b2": 0.9})
    assert groups(out) == [{"b1", "b2"}, {"a1", "a2", "a3"}]
    assert [row["verdicts_disagree"] for row in find_duplicates(out).to_pylist()] == [True] * 2 + [False] * 3


def test_flat_frames_and_one_picture_in_common_make_no_copies(tmp_path):
    one, other = scenes(2)
    clips = {"a": [0, 0, 0], "b": [0, 0], "c": [*one, 99], "d": [*other, 99]}
    assert groups(run_of(tmp_path, clips)) == []


@pytest.mark.parametrize("turn", range(8))
def test_the_hash_of_a_turned_or_mirrored_picture_follows_from_its_own(turn):
    picture = GREY[40:440, 30:430]
    turned = np.rot90(picture[:, ::-1] if turn >= 4 else picture, turn % 4)
    with database() as db:
        db.register("h", pa.table({"hash": pa.array([perceptual_hash(picture)], pa.uint64())}))
        (predicted,) = db.sql(f"SELECT {', '.join(_turns('hash'))} FROM h").fetchall()
    actual = perceptual_hash(np.ascontiguousarray(turned))
    assert min((number ^ actual).bit_count() for number in predicted) <= 6


def test_a_mirrored_copy_is_in_the_group(tmp_path):
    frames = [np.ascontiguousarray(GREY[y : y + 300, 100:400]) for y in (0, 60, 120)]
    clips = {
        "a": [perceptual_hash(frame) for frame in frames],
        "b": [perceptual_hash(np.ascontiguousarray(frame[:, ::-1])) for frame in frames],
        "c": scenes(1)[0],
    }
    assert groups(run_of(tmp_path, clips)) == [{"a", "b"}]


def test_a_run_without_hashes_is_refused_in_one_line(tmp_path):
    out = run_of(tmp_path, {"a": None, "b": None})
    with pytest.raises(OutputError, match="kept no hashes"):
        find_duplicates(out)


def test_the_command_prints_the_groups_and_writes_them(tmp_path):
    (one,) = scenes(1)
    out = run_of(tmp_path / "scores", {"a": one, "b": one}, scores={"b": 0.9})
    table = tmp_path / "copies.parquet"
    done = CliRunner().invoke(main, ["duplicates", str(out.root), "--out", str(table)])
    assert done.exit_code == 0, done.output
    assert "1 groups of copies with 2 videos; in 1 groups the verdicts disagree" in done.stdout
    assert "0.900 fake       v/b" in done.stdout
    assert read_table(out.root.parse(str(table))).schema.equals(DUPLICATES)
    done = CliRunner().invoke(main, ["duplicates", str(out.root), "--json"])
    assert json.loads(done.stdout) == {"out": None, "videos": 2, "groups": 1, "groups_that_disagree": 1}


@pytest.mark.real
def test_the_versions_of_a_real_clip_are_one_group_with_its_manipulations_and_nothing_else_joins(
    real_data, tmp_path
):
    clips = {}
    for path in sorted([*real_data.glob("variants/*"), *real_data.glob("archive/**/*.mp4")]):
        with path.open("rb") as file:
            index = index_frames(file, max_pixels=None)
            chosen = sampled_frames(
                Sampling("interval", 1.0), index.times_s, fps=None, keyframes=index.keyframes
            )
            frames = decode_frames(file, index.positions(chosen.tolist()[:8]), max_pixels=None)
            clips[str(path.relative_to(real_data))] = [look_of(frame.rgb).hash for frame in frames]
    found = groups(run_of(tmp_path, clips))
    for group in found:
        assert len({scene_of(name) for name in group}) == 1
    versions = {name for name in clips if name.startswith("variants/")}
    assert any(versions <= group for group in found)


def scene_of(name):
    """Return the scene of a FaceForensics++ file or of the clip of `variants/`: the target's number."""
    stem = name.rpartition("/")[2].partition(".")[0]
    return "720" if name.startswith("variants/") else stem.partition("_")[0]
