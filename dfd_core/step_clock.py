"""Measures how long each step of an extraction takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

Step = Literal["seek", "decode", "convert", "detect", "crop"]
STEPS: tuple[Step, ...] = get_args(Step)
"""The steps of an extraction, in order: `seek` opens the file and finds the frames, `decode` decodes them and the frames they depend
on, `convert` makes upright RGB, `detect` finds faces, `crop` cuts them out."""


class StepClock:
    """Counts wall-clock and CPU seconds of this process; at any moment they count for one step.

    CPU seconds include all threads, in user and system mode. Call it from one thread only.
    """

    def __init__(self, step: Step) -> None:
        """Start counting for `step`."""
        self._wall_s = dict.fromkeys(STEPS, 0.0)
        self._cpu_s = dict.fromkeys(STEPS, 0.0)
        self._step: Step = step
        self._since_s, self._cpu_since_s = time.perf_counter(), time.process_time()

    def enter(self, step: Step) -> None:
        """Count the seconds from now on for `step`."""
        now_s, cpu_now_s = time.perf_counter(), time.process_time()
        self._wall_s[self._step] += now_s - self._since_s
        self._cpu_s[self._step] += cpu_now_s - self._cpu_since_s
        self._step, self._since_s, self._cpu_since_s = step, now_s, cpu_now_s

    @contextmanager
    def during(self, step: Step) -> Iterator[None]:
        """Count the seconds of a block for `step`; after the block, count for the previous step again."""
        before = self._step
        self.enter(step)
        try:
            yield
        finally:
            self.enter(before)

    def as_row(self) -> dict[str, Any]:
        """Return the time fields of a segment's row: the seconds so far (`schemas.SECONDS`) and the present time."""
        self.enter(self._step)
        return _row(self._wall_s, self._cpu_s)


def lost_seconds(lost_s: float) -> dict[str, Any]:
    """Return the time fields of a segment whose process was lost after `lost_s` wall-clock seconds.

    The wall-clock seconds count as decoding. The CPU seconds are unknown and given as 0.0.
    """
    nothing = dict.fromkeys(STEPS, 0.0)
    return _row({**nothing, "decode": lost_s}, nothing)


def _row(wall_s: dict[Step, float], cpu_s: dict[Step, float]) -> dict[str, Any]:
    seconds = {
        name: {f"{step}_s": spent_s for step, spent_s in of_step.items()}
        for name, of_step in (("extract_seconds", wall_s), ("extract_cpu_seconds", cpu_s))
    }
    return {**seconds, "extracted_at": time.time()}
