"""The main job where everything lies in a bucket: source, model, output and checkpoint, over a real S3 client."""

import json
import re
import shutil
import subprocess
import sys
import time

import pyarrow.dataset as ds
import pytest

from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes
from tests.commands.test_score import MODEL, ROOT, faces_of, record_of, score, videos_of
from tests.s3_server import EXPIRED, INTERNAL_ERROR, dropped, environment_of

pytestmark = [pytest.mark.ray, pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(s3_server, clip_folder, bundle):
    s3_server.upload(clip_folder, "archive/clips")
    s3_server.upload(bundle, "archive/bundle")
    with environment_of(s3_server):
        yield s3_server


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A network small enough to load in a moment."""
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(4, 5, strides=4, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    sharp = keras.initializers.RandomNormal(stddev=9.0)
    model = keras.Sequential([keras.Input((64, 64, 3)), *layers, keras.layers.Dense(2, "softmax", kernel_initializer=sharp)])  # fmt: skip
    folder = tmp_path_factory.mktemp("bundle")
    model.save(folder / "model.keras")
    (folder / "card.json").write_text(json.dumps({"name": "tiny", "input_size": 64}))
    return folder


@pytest.fixture(scope="module")
def local_run(clip_folder, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "out"
    done = score(clip_folder, "--model", bundle, "--out", out, "--precision", "float32")
    assert done.returncode == 0, done.stderr
    return out


def remote_rows(uri, table):
    found = Address.parse(uri) / table
    return ds.dataset(found.path, filesystem=found.fs, format="parquet").to_table().to_pylist()


def without_address(rows):
    """Return `videos` rows by id, less what must differ between two places."""
    return {row["video_id"]: {name: row[name] for name in row if name != "uri"} for row in rows}


def started(*arguments):
    command = [sys.executable, "jobs/score.py", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def troubled_run(server):
    """A run over a bucket that answers 500 and drops connections, and in which one video's credential has expired.

    While it runs a second one tries the same folder.
    """
    arguments = ["s3://archive/clips", "--model", "s3://archive/bundle", "--out", "s3://archive/scores"]
    expired = "/sub/good_b.mkv"
    with (
        server.faulty(EXPIRED, path=expired),
        server.faulty(INTERNAL_ERROR, kinds="HEAD GET LIST PUT POST", times=1) as answered_500,
        server.faulty(dropped, path="/clips/", times=2) as cut,
    ):
        first = started(*arguments, "--precision", "float32")
        while not exists(Address.parse("s3://archive/scores/run.json")) and first.poll() is None:
            time.sleep(0.2)
        second = started(*arguments, "--precision", "float32")
        refused = second.communicate(timeout=200)
        stdout, stderr = first.communicate(timeout=300)
    assert first.returncode == 0, stderr
    assert answered_500.total() > 20
    assert cut.total() > 3
    return stdout, stderr, second.returncode, refused[1]


def test_a_second_run_into_the_same_bucket_is_refused(troubled_run):
    _, _, status, log = troubled_run
    assert status == 2
    assert "Another run is writing to s3://archive/scores" in log
    assert "Traceback" not in log


def test_a_run_over_a_troubled_bucket_loses_only_what_it_was_denied(troubled_run, local_run):
    here = without_address(videos_of(local_run).values())
    there = without_address(remote_rows("s3://archive/scores", "videos"))
    lost = there.pop("sub/good_b.mkv")
    assert (lost["status"], lost["error_kind"]) == ("failed", "storage")
    del here["sub/good_b.mkv"]
    assert there == here


def test_retrying_gives_the_tables_of_the_local_run(server, troubled_run, local_run):
    arguments = ["s3://archive/clips", "--model", "s3://archive/bundle", "--out", "s3://archive/scores"]
    done = score(*arguments, "--precision", "float32", "--retry-failed=storage")
    assert done.returncode == 0, done.stderr
    assert "Opening 1 videos" in done.stderr
    assert without_address(remote_rows("s3://archive/scores", "videos")) == without_address(
        videos_of(local_run).values()
    )
    assert remote_rows("s3://archive/scores", "faces") == faces_of(local_run)
    assert len(remote_rows("s3://archive/scores", "faces")) > 5
    assert not exists(Address.parse("s3://archive/scores/.lock"))


def test_no_secret_is_in_what_a_run_says_or_leaves(server, troubled_run):
    stdout, stderr, _, refused = troubled_run
    secrets = [value for name, value in server.environment().items() if "KEY" in name]
    assert len(secrets) == 2
    kept = [read_bytes(Address.parse("s3://archive/scores/run.json")).decode()]
    kept += [str(remote_rows("s3://archive/scores", table)) for table in ("videos", "faces", "plan/videos")]
    for text in (stdout, stderr, refused, *kept):
        assert not any(secret in text for secret in secrets)


@pytest.mark.parametrize(
    ("fault", "source", "model", "out", "complaint"),
    [
        (None, "s3://no-such-bucket/clips", MODEL, "OUT", "Nothing is at the source 's3://no-such-bucket/clips'"),
        (None, "s3://archive/clips", MODEL, "s3://no-such-bucket/out", "no-such-bucket"),
        (EXPIRED, "s3://archive/clips", MODEL, "OUT", "The provided token has expired (ExpiredToken)"),
        (None, "s3://archive/clips", "s3://archive/no-bundle", "OUT", "The model at 's3://archive/no-bundle'"),
        (None, "s3://archive/clips", MODEL, "s3://name:word@archive/out", "without credentials"),
    ],
)  # fmt: skip
def test_an_unusable_bucket_is_exit_2_in_one_line(server, tmp_path, fault, source, model, out, complaint):
    arguments = [source, "--model", model, "--out", str(tmp_path / "out") if out == "OUT" else out]
    if fault:
        with server.faulty(fault, kinds="*"):
            done = score(*arguments)
    else:
        done = score(*arguments)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_any_fsspec_address_will_do(clip_folder, bundle, tmp_path, local_run):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("good_a.mp4", "no_face.mp4"):
        shutil.copy(clip_folder / name, clips)
    out = f"local://{tmp_path}/out"
    done = score(f"local://{clips}", "--model", f"local://{bundle}", "--out", out, "--precision", "float32")
    assert done.returncode == 0, done.stderr
    mine = without_address(videos_of(tmp_path / "out").values())
    theirs = without_address(videos_of(local_run).values())
    assert mine == {name: theirs[name] for name in mine}
    assert set(mine) == {"good_a.mp4", "no_face.mp4"}
    assert record_of(tmp_path / "out")["outcome"] == "complete"


@pytest.mark.real
@pytest.mark.timeout(2000)
def test_the_real_archive_in_a_bucket_gives_the_tables_of_the_local_run(server, bundle, real_data, tmp_path):
    folder = real_data / "archive"
    server.upload(folder, "real/archive")
    done = score(folder, "--model", bundle, "--out", tmp_path / "out", timeout=900)
    assert done.returncode == 0, done.stderr
    with server.requests() as requests:
        arguments = ["--model", "s3://archive/bundle", "--out", "s3://real/scores"]
        done = score("s3://real/archive", *arguments, timeout=900)
    assert done.returncode == 0, done.stderr
    assert without_address(remote_rows("s3://real/scores", "videos")) == without_address(
        videos_of(tmp_path / "out").values()
    )
    assert remote_rows("s3://real/scores", "faces") == faces_of(tmp_path / "out")
    assert faces_of(tmp_path / "out")
    of_videos = [request for request in requests if request.path.startswith("/real/archive/")]
    assert all(
        re.fullmatch(r"bytes=\d+-\d+", request.byte_range) for request in of_videos if request.kind == "GET"
    )
