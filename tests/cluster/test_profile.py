"""A recording that cannot be made or kept is told, and ends no run."""

from __future__ import annotations

import time

import pytest
import ray

from dfd.archive.progress import Tally
from dfd.cluster.profile import Profile
from dfd_core.config import ExtractConfig
from dfd_core.stages.sandbox import Sandbox

pytestmark = pytest.mark.ray


@pytest.fixture
def tally(ray_cluster):
    actor = Tally.remote({})
    yield actor
    ray.kill(actor)


def outcome(address, tally):
    """What is told of a recording to `address` of a second's work, and whether that was done."""
    sandbox = Sandbox(ExtractConfig(crop_px=16))
    request = {"plan_key": "k", "uri": __file__}
    ran = False
    try:
        with Profile(str(address), tally).of(sandbox):
            until_s = time.monotonic() + 1
            while time.monotonic() < until_s:
                ran = sandbox.plan(request)["error_kind"] == "not_a_video"
    finally:
        sandbox.close()
    return ray.get(tally.read.remote())["profile"], ran


def test_a_profile_that_cannot_be_written_ends_no_run(tmp_path, tally):
    (tmp_path / "file").touch()
    (told,), ran = outcome(tmp_path / "file" / "profile.json", tally)
    assert ran
    assert "cannot be written" in told
    assert "\n" not in told


def test_a_recorder_that_is_not_there_ends_no_run(tmp_path, tally, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    (told,), ran = outcome(tmp_path / "profile.json", tally)
    assert ran
    assert "does not start" in told


def test_the_address_holds_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Profile("out/profile.json", None).address == str(tmp_path / "out" / "profile.json")
    assert Profile("s3://bucket/profile.json", None).address == "s3://bucket/profile.json"
