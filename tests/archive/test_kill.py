"""SIGKILL at random moments, the same command again: the tables of an undisturbed run. `make drill-kill` is the long one."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.drill_kill import VICTIMS, Drill, compare, disturbed_run, doubled, make_archive, start

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Undisturbed:
    """A run that nobody killed, and a second one that was started on its folder meanwhile."""

    archive: Path
    out: Path
    whole_s: float
    second_status: int
    log: str


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    archive, out = folder / "archive", folder / "expected"
    archive.mkdir()
    make_archive(archive, copies=2)
    began_s = time.monotonic()
    first = start(archive, out)
    try:
        while not (out / "run.json").exists() and first.poll() is None:
            time.sleep(0.1)
        second_status = start(archive, out).wait(timeout=120)
    finally:
        assert first.wait(timeout=300) == 0
    whole_s = time.monotonic() - began_s
    return Undisturbed(archive, out, whole_s, second_status, out.with_suffix(".log").read_text())


def test_nothing_is_lost_or_doubled_whoever_is_killed(undisturbed, tmp_path):
    chance = random.Random(5)
    plan = [(victim, chance.uniform(0.25, 0.5) * undisturbed.whole_s) for victim in VICTIMS]
    drill, out = Drill(), tmp_path / "out"
    disturbed_run(undisturbed.archive, out, plan, drill, chance, limit_s=500)
    assert drill.faults == [], out.with_suffix(".log").read_text()
    assert drill.kills["driver"] == 1
    compare(undisturbed.out, out, drill)
    assert drill.faults == []
    assert doubled(out) == 0


def test_a_second_run_on_the_same_folder_is_refused(undisturbed):
    assert undisturbed.second_status == 2
    assert "Another run is writing" in undisturbed.log
