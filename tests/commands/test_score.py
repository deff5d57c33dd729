"""The main job as a user runs it: a command, an exit status, tables on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from unittest.mock import ANY

import numpy as np
import pyarrow.parquet as pq
import pytest

from dfd.commands import verify
from dfd_core.errors import ERROR_KINDS
from dfd_core.review.page import write_page
from dfd_core.schemas import FACES, PICTURES, VIDEOS
from tests.reference import seed_loop
from tests.run_job import ROOT, run_job, run_job_here

MODEL = "untrained:mobilenet_v3_small"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("ignore:.ray_remote_args. is deprecated"),  # as the jobs themselves ignore it
]


def score(*arguments, script="score", timeout=300):
    return run_job(script, *arguments, timeout_s=timeout)


def score_here(*arguments, script="score"):
    return run_job_here(script, *arguments)


def videos_of(out):
    return {row["video_id"]: row for row in pq.read_table(out / "videos").to_pylist()}


def faces_of(out):
    return pq.read_table(out / "faces").to_pylist()


def record_of(out):
    return json.loads((out / "run.json").read_text())


@pytest.fixture(scope="module")
def archive(clip_folder, tmp_path_factory):
    """A copy of the clips that tests may change."""
    folder = tmp_path_factory.mktemp("archive") / "clips"
    shutil.copytree(clip_folder, folder)
    return folder


@pytest.fixture(scope="module")
def first_run(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("scored") / "out"
    done = score(archive, "--model", MODEL, "--out", out, "--profile")
    return out, done


def test_the_job_ends_well_and_says_so(first_run):
    out, done = first_run
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "UNTRAINED" in done.stderr
    assert "7 videos" in done.stdout
    assert f"'{out}/videos/*.parquet'" in done.stdout
    assert "pd.read_parquet" in done.stdout
    seconds = [
        line.split()
        for line in done.stdout.splitlines()
        if line.lstrip().startswith(("worker", "wall", "CPU"))
    ]
    assert seconds[0] == "worker seconds probe seek decode convert detect crop queue infer write".split()
    assert [(line[0], len(line), line[7]) for line in seconds[1:]] == [("wall", 10, ANY), ("CPU", 10, "–")]


def test_a_profile_shows_the_functions_of_one_worker(first_run):
    found = json.loads((first_run[0] / "profile.speedscope.json").read_text())
    assert "speedscope" in found["$schema"]
    names = {frame["name"] for frame in found["shared"]["frames"]}
    assert {"extract", "extract_once"} <= names
    assert sum(len(profile["samples"]) for profile in found["profiles"]) > 10


def test_the_log_is_the_jobs_own_and_nothing_else(first_run):
    lines = first_run[1].stderr.splitlines()
    assert [line for line in lines if line[2:3] + line[5:6] != "::"] == []


def test_every_file_has_exactly_one_row_with_the_right_status(first_run):
    rows = videos_of(first_run[0])
    assert len(pq.read_table(first_run[0] / "videos")) == 7
    statuses = {video_id: (row["status"], row["error_kind"]) for video_id, row in rows.items()}
    assert statuses.pop("truncated.mp4")[0] in ("partial", "failed")
    assert statuses == {
        "good_a.mp4": ("scored", None),
        "good_c.webm": ("scored", None),
        "sub/good_b.mkv": ("scored", None),
        "no_face.mp4": ("no_face", None),
        "text.mp4": ("failed", "not_a_video"),
        "empty.mp4": ("failed", "empty"),
    }
    assert rows["truncated.mp4"]["error_kind"] in ("truncated", "damaged")
    for row in rows.values():
        assert (row["p_fake"] is None) == (row["status"] in ("no_face", "failed"))
        assert row["error_kind"] is None or row["error_kind"] in ERROR_KINDS


def test_every_file_of_a_table_has_its_schema(first_run):
    for name, schema in (("videos", VIDEOS), ("faces", FACES)):
        for file in (first_run[0] / name).glob("*.parquet"):
            assert pq.read_schema(file).equals(schema)


def test_a_run_keeps_a_few_faces_of_each_video_and_has_a_page(first_run, tmp_path):
    pictures = pq.read_table(first_run[0] / "pictures")
    assert pictures.schema.equals(PICTURES)
    faces = {
        (row["video_id"], row["frame_index"], row["face_index"]): row["p_fake"]
        for row in pq.read_table(first_run[0] / "faces").to_pylist()
    }
    rows = pictures.to_pylist()
    assert {row["video_id"] for row in rows} == {video_id for video_id, *_ in faces}
    assert max(Counter(row["video_id"] for row in rows).values()) <= 6
    for row in rows:
        assert row["p_fake"] == faces[row["video_id"], row["frame_index"], row["face_index"]]
        assert row["jpeg"].startswith(b"\xff\xd8") and row["occlusion"] is None
    assert write_page(str(first_run[0]), str(tmp_path / "page")).num_pictures == len(rows)


def test_faces_are_the_seeds_loop_over_every_frame(first_run, archive):
    found = faces_of(first_run[0])
    for video_id in ("good_a.mp4", "sub/good_b.mkv", "good_c.webm"):
        mine = [
            (row["frame_index"], row["left"], row["top"], row["right"], row["bottom"])
            for row in found
            if row["video_id"] == video_id
        ]
        assert mine == [(index, *box) for index, box, _ in seed_loop(archive / video_id)]
        assert mine


def test_a_videos_score_is_the_mean_over_its_frames(first_run):
    frames = {}
    for row in faces_of(first_run[0]):
        key = (row["video_id"], row["frame_index"])
        frames[key] = max(frames.get(key, 0.0), row["p_fake"])
    for video_id, row in videos_of(first_run[0]).items():
        own = [score for (owner, _), score in frames.items() if owner == video_id]
        assert row["p_fake"] == (pytest.approx(np.mean(own), abs=1e-6) if own else None)


def test_run_json_tells_what_ran(first_run):
    record = record_of(first_run[0])
    assert record["outcome"] == "complete"
    assert record["model"]["trained"] is False
    assert record["model"]["precision"] in ("bfloat16", "float32", "float16")
    assert record["counts"]["videos"] == 7
    wall, cpu = record["stage_seconds"], record["stage_cpu_seconds"]
    assert list(wall) == "probe seek decode convert detect crop queue infer write".split()
    assert list(cpu) == [stage for stage in wall if stage != "queue"]
    assert all(wall[stage] > 0 for stage in wall)
    assert all(cpu[stage] > 0 for stage in cpu)
    assert sum(cpu.values()) < 1.2 * sum(wall[stage] for stage in cpu)
    assert record["throughput"]["footage_s_per_wall_s"] > 0
    starts_s = [record["throughput"]["start_s"][name] for name in ("ray", "planned", "model", "first_result")]
    assert 0 < starts_s[0] <= starts_s[1] <= starts_s[2] <= starts_s[3] < record["attempts"][0]["wall_s"] + 30
    assert "unexpected" not in record["counts"]["error_kinds"]


def test_the_same_command_again_decodes_nothing(first_run, archive):
    out, _ = first_run
    before = videos_of(out), faces_of(out)
    log = {path: path.stat().st_mtime_ns for path in (out / "segments").iterdir()}
    done = score_here(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "segments to do" not in done.stderr
    assert "Opening" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "segments").iterdir()} == log
    assert (videos_of(out), faces_of(out)) == before
    assert len(record_of(out)["attempts"]) >= 2


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--sampling", "interval:0.5", "sampling was 'stride', now 'interval:0.5'"),
        ("--detect-max-side", "640", "detect_max_side_px was None, now 640"),
        ("--detector", "fast", "detector was 'dlib', now 'fast'"),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused_by_name_and_value(
    first_run, archive, flag, value, complaint
):
    out, _ = first_run
    before = (out / "run.json").read_bytes()
    done = score_here(archive, "--model", MODEL, "--out", out, flag, value)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / "run.json").read_bytes() == before


def test_a_corrected_card_is_another_configuration_and_a_threshold_is_not(archive, tmp_path):
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    small_bundle(bundle, threshold=0.25)
    arguments = (archive / "good_a.mp4", "--model", bundle, "--out", out)
    assert score_here(*arguments).returncode == 0
    before = videos_of(out)["good_a.mp4"]["p_fake"]
    small_bundle(bundle, threshold=1.0)
    done = score_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert [(row["p_fake"], row["verdict"]) for row in videos_of(out).values()] == [(before, "real")]
    assert record_of(out)["model"]["threshold"] == 1.0
    small_bundle(bundle, threshold=1.0, color="bgr")
    done = score_here(*arguments)
    assert done.returncode == 2
    assert "color was None, now 'bgr'" in done.stderr


def small_bundle(folder, **facts):
    """Write a bundle whose `model.keras` is the same bytes each time, with a card of `facts`."""
    folder.mkdir(exist_ok=True)
    if not (folder / "model.keras").exists():
        import keras

        layers = [
            keras.Input((32, 32, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, "softmax"),
        ]
        keras.Sequential(layers).save(folder / "model.keras")
    (folder / "card.json").write_text(json.dumps({"name": "small", "input_size": 32, **facts}))


def test_what_failed_may_be_tried_again_with_other_limits(archive, tmp_path):
    out = tmp_path / "out"
    arguments = (archive / "good_a.mp4", "--model", MODEL, "--out", out)
    done = score_here(*arguments, "--max-pixels", "1000")
    assert done.returncode == 1, done.stderr
    assert videos_of(out)["good_a.mp4"]["error_kind"] == "too_large"
    done = score_here(*arguments, "--retry-failed=too_large")
    assert done.returncode == 0, done.stderr
    assert videos_of(out)["good_a.mp4"]["status"] == "scored"
    assert record_of(out)["configuration"]["limits"]["max_pixels"] == 8192 * 8192


@pytest.mark.parametrize("flags", [("--cpus-per-extract", 512), ("--gpus-per-actor", 512)])
@pytest.mark.parametrize("more", [(), ("--estimate",)])
def test_what_this_machine_does_not_have_is_refused_and_not_waited_for(archive, tmp_path, flags, more):
    done = score_here(archive / "good_a.mp4", "--model", MODEL, "--out", tmp_path / "out", *flags, *more)
    assert done.returncode == 2
    assert flags[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_deleted_file_of_the_log_is_not_passed_over(first_run, archive, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    next((out / "segments").glob("*.parquet")).unlink()
    done = score_here(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_aggregation_opens_no_video(first_run, archive, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    archive.rename(archive.with_name("elsewhere"))
    try:
        done = score_here(out, "--aggregation", "max", script="aggregate")
    finally:
        archive.with_name("elsewhere").rename(archive)
    assert done.returncode == 0, done.stderr
    highest = {}
    for row in faces_of(out):
        highest[row["video_id"]] = max(highest.get(row["video_id"], 0.0), row["p_fake"])
    assert {key: row["p_fake"] for key, row in videos_of(out).items() if row["p_fake"] is not None} == highest
    assert record_of(out)["aggregation"] == "max"
    for name in ("stage_seconds", "stage_cpu_seconds"):
        assert record_of(out)[name] == record_of(first_run[0])[name]


def test_a_mended_file_is_picked_up_and_only_it(first_run, archive, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    before = videos_of(out)
    kept, modified_ns = (archive / "text.mp4").read_bytes(), (archive / "text.mp4").stat().st_mtime_ns
    shutil.copy(archive / "good_a.mp4", archive / "text.mp4")
    try:
        done = score_here(archive, "--model", MODEL, "--out", out)
    finally:
        (archive / "text.mp4").write_bytes(kept)
        os.utime(archive / "text.mp4", ns=(modified_ns, modified_ns))
    assert done.returncode == 0, done.stderr
    assert "Opening 1 videos" in done.stderr
    after = videos_of(out)
    assert after["text.mp4"]["p_fake"] == after["good_a.mp4"]["p_fake"]
    assert {k: v for k, v in after.items() if k != "text.mp4"} == {
        k: v for k, v in before.items() if k != "text.mp4"
    }


def test_more_failures_than_allowed_is_exit_1_and_the_tables_are_there(first_run, archive, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    done = score_here(archive, "--model", MODEL, "--out", out, "--max-failed", "0.1")
    assert done.returncode == 1
    assert record_of(out)["outcome"] == "too_many_failed"
    assert len(videos_of(out)) == 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["SOURCE", "--model", "nowhere", "--out", "OUT"], "no model at 'nowhere'"),
        (["SOURCE", "--model", "untrained:resnet_51", "--out", "OUT"], "Unknown backbone"),
        (["nowhere", "--model", MODEL, "--out", "OUT"], "Nothing is at the source"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--sampling", "often"], "Expected sampling"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--segment-s", "0"], "segment length"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--detect-max-side", "0"], "for the detector >= 80"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--aggregation", "sum"], "Expected aggregation"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--aggregation", f"topk:{2**63}"], "Expected topk:K"),
        (
            ["SOURCE", "--model", MODEL, "--out", "OUT", "--estimate", "--overwrite"],
            "--estimate changes no results",
        ),
        (
            ["SOURCE", "--model", MODEL, "--out", "OUT", "--estimate", "--retry-failed"],
            "--estimate changes no results",
        ),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--retry-failed=bad"], "Expected error kinds"),
        (["SOURCE", "--model", MODEL, "--out", "OUT", "--max-failed", "2"], "max-failed"),
        (["SOURCE", "--model", MODEL], "--out"),
        (["SOURCE", "--model", MODEL, "--out", "SOURCE"], "not empty and holds no run.json"),
        (["SOURCE", "--model", MODEL, "--out", "SOURCE/text.mp4"], "cannot be written"),
    ],
)
def test_an_unusable_request_is_exit_2_in_one_line_and_writes_nothing(
    archive, tmp_path, arguments, complaint
):
    places = {
        "SOURCE": str(archive),
        "OUT": str(tmp_path / "out"),
        "SOURCE/text.mp4": str(archive / "text.mp4"),
    }
    before = sorted(archive.rglob("*"))
    done = score_here(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert sorted(archive.rglob("*")) == before


def test_an_interrupted_run_resumes_to_the_same_tables(first_run, archive, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "jobs/score.py", str(archive), "--model", MODEL, "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((out / "checkpoint" / "plan").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "The same command resumes" in log
    assert "Traceback" not in log
    assert record_of(out)["outcome"] == "interrupted"
    done = score_here(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert videos_of(out) == videos_of(first_run[0])
    assert faces_of(out) == faces_of(first_run[0])


def test_short_segments_give_the_same_faces_as_long_ones(first_run, archive, tmp_path):
    out = tmp_path / "out"
    done = score_here(archive / "good_a.mp4", "--model", MODEL, "--out", out, "--segment-s", "1")
    assert done.returncode == 0, done.stderr
    mine = [row for row in faces_of(first_run[0]) if row["video_id"] == "good_a.mp4"]
    assert faces_of(out) == mine
    assert pq.read_table(out / "plan" / "segments").num_rows == 3


def test_what_makes_a_run_faster_is_in_its_configuration_and_in_its_tables(archive, tmp_path):
    out = tmp_path / "out"
    flags = ["--sampling", "keyframes", "--detect-max-side", "240"]
    done = score_here(archive / "good_a.mp4", "--model", MODEL, "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    configuration = record_of(out)["configuration"]
    assert (configuration["sampling"], configuration["detect_max_side_px"]) == ("keyframes", 240)
    assert videos_of(out)["good_a.mp4"]["num_frames"] == 1
    ((index, whole, _), *_) = seed_loop(archive / "good_a.mp4")
    (face,) = faces_of(out)
    box = [face[side] for side in ("left", "top", "right", "bottom")]
    assert face["frame_index"] == index == 0
    assert 0 < max(abs(mine - theirs) for mine, theirs in zip(box, whole, strict=True)) < 20


def test_a_run_is_verified_and_whatever_was_tampered_with_is_named(first_run, archive, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    assert verify.run(str(out), None, None, 2) == 0
    assert "2 videos scored again; differences: none" in capsys.readouterr().out
    kept = (archive / "good_a.mp4").read_bytes()
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "good_a.mp4").write_bytes(kept[:-1] + b"x")
    with open(out / "run.json", "a") as file:
        file.write("\n")
    assert verify.run(str(out), str(copy), None, 0) == 1
    told = capsys.readouterr().out
    assert "changed    good_a.mp4" in told
    assert "changed    run.json" in told


def test_overwriting_moves_the_old_results_aside(first_run, archive, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    done = score_here(archive / "good_a.mp4", "--model", MODEL, "--out", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert list(videos_of(out)) == ["good_a.mp4"]
    (aside,) = tmp_path.glob("out.*")
    assert videos_of(aside) == videos_of(first_run[0])


def test_a_record_that_cannot_be_read_is_moved_aside_too(archive, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("{")
    arguments = (archive / "good_a.mp4", "--model", MODEL, "--out", out)
    done = score_here(*arguments)
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)
    done = score_here(*arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert [aside.joinpath("run.json").read_text() for aside in tmp_path.glob("out.*")] == ["{"]


@pytest.mark.parametrize("model", [None, {"trained": True}])
def test_a_folder_without_scores_has_nothing_to_aggregate(tmp_path, model):
    record = {"configuration": {}, "attempts": [], "model": model}
    (tmp_path / "run.json").write_text(json.dumps(record))
    done = score_here(tmp_path, script="aggregate")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("holds no scores: it is not the output of jobs/score.py")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, and how to make it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_one_line_and_leaves_a_folder_that_resumes(small_disk, archive, first_run):
    place, enlarge = small_disk
    out = place / "out"
    done = score_here(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 2, done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    enlarge()
    done = score_here(archive, "--model", MODEL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert videos_of(out) == videos_of(first_run[0])
