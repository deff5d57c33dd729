"""Seconds by step, held to what the steps were made to take."""

import time

import pytest

from dfd_core.step_clock import STEPS, StepClock, lost_seconds
from tests.hostile import linger


def test_each_step_has_its_own_seconds_and_waiting_takes_no_cpu():
    clock = StepClock("seek")
    time.sleep(0.1)
    clock.enter("decode")
    with clock.during("convert"):
        linger()
    time.sleep(0.1)
    row = clock.as_row()
    wall, cpu = row["extract_seconds"], row["extract_cpu_seconds"]
    assert list(wall) == list(cpu) == [f"{step}_s" for step in STEPS]
    assert (wall["seek_s"] >= 0.1, wall["decode_s"] >= 0.1, wall["convert_s"] >= 0.4) == (True, True, True)
    assert 0.2 <= cpu["convert_s"] <= wall["convert_s"] - 0.19
    assert max(cpu["seek_s"], cpu["decode_s"]) < 0.05
    assert (wall["detect_s"], wall["crop_s"], cpu["detect_s"]) == (0.0, 0.0, 0.0)


def test_a_block_that_raises_gives_the_clock_back():
    clock = StepClock("decode")
    with pytest.raises(OSError), clock.during("convert"):
        raise OSError
    time.sleep(0.05)
    assert clock.as_row()["extract_seconds"]["decode_s"] >= 0.05


def test_a_row_can_be_had_before_the_end():
    clock = StepClock("crop")
    first, second = (clock.as_row()["extract_seconds"]["crop_s"] for _ in range(2))
    assert 0 < first < second


def test_the_seconds_of_a_lost_process_are_decoding_and_of_no_cpu():
    row = lost_seconds(7.5)
    assert row["extract_seconds"] == {f"{step}_s": 7.5 * (step == "decode") for step in STEPS}
    assert row["extract_cpu_seconds"] == {f"{step}_s": 0.0 for step in STEPS}
