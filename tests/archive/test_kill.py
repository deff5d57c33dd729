"""SIGKILL at random moments, the same command again: the tables of an undisturbed run. `make drill-kill` is the long one."""

import random
import time

import pytest

from benchmarks.drill_kill import VICTIMS, Drill, compare, disturbed_run, doubled, make_archive, start

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_nothing_is_lost_or_doubled_whoever_is_killed(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    make_archive(archive, copies=2)
    expected = tmp_path / "expected"
    began_s = time.monotonic()
    assert start(archive, expected).wait(timeout=300) == 0
    whole_s = time.monotonic() - began_s
    chance = random.Random(5)
    plan = [(victim, chance.uniform(0.25, 0.5) * whole_s) for victim in VICTIMS]
    drill, out = Drill(), tmp_path / "out"
    disturbed_run(archive, out, plan, drill, chance, limit_s=500)
    assert drill.faults == [], out.with_suffix(".log").read_text()
    assert drill.kills["driver"] == 1
    compare(expected, out, drill)
    assert drill.faults == []
    assert doubled(out) == 0


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    make_archive(archive, copies=1)
    out = tmp_path / "out"
    first = start(archive, out)
    try:
        while not (out / "run.json").exists() and first.poll() is None:
            pass
        second = start(archive, out)
        assert second.wait(timeout=120) == 2
        assert "Another run is writing" in out.with_suffix(".log").read_text()
    finally:
        assert first.wait(timeout=300) == 0
