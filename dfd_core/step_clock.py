"""Where the seconds of an extraction go, step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

Step = Literal["seek", "decode", "convert", "detect", "crop"]
STEPS: tuple[Step, ...] = get_args(Step)
"""Of an extraction, in their order: `seek` opens the file and finds the frames, `decode` decodes what they need, `convert`
makes upright RGB of them, `detect` finds their faces, `crop` cuts the faces out."""


class StepClock:
    """Counts the wall-clock and the CPU seconds of this process, at every moment for one step.

    CPU seconds are those of all its threads, in user and system mode. Not for more than one thread.
    """

    def __init__(self, step: Step) -> None:
        """Begin with `step`."""
        self._wall_s = dict.fromkeys(STEPS, 0.0)
        self._cpu_s = dict.fromkeys(STEPS, 0.0)
        self._step: Step = step
        self._since_s, self._cpu_since_s = time.perf_counter(), time.process_time()

    def enter(self, step: Step) -> None:
        """Let the seconds from now on count for `step`."""
        now_s, cpu_now_s = time.perf_counter(), time.process_time()
        self._wall_s[self._step] += now_s - self._since_s
        self._cpu_s[self._step] += cpu_now_s - self._cpu_since_s
        self._step, self._since_s, self._cpu_since_s = step, now_s, cpu_now_s

    @contextmanager
    def during(self, step: Step) -> Iterator[None]:
        """Let the seconds of a block count for `step`, and those after it for the step before."""
        before = self._step
        self.enter(step)
        try:
            yield
        finally:
            self.enter(before)

    def as_row(self) -> dict[str, Any]:
        """Return the fields of a segment's row that hold the time: the seconds up to now (`schemas.SECONDS`), and now."""
        self.enter(self._step)
        return _row(self._wall_s, self._cpu_s)


def lost_seconds(lost_s: float) -> dict[str, Any]:
    """Return those fields of a segment whose process was lost after `lost_s` seconds of wall clock.

    They count as decoding. The CPU seconds are lost with the process: 0.0.
    """
    nothing = dict.fromkeys(STEPS, 0.0)
    return _row({**nothing, "decode": lost_s}, nothing)


def _row(wall_s: dict[Step, float], cpu_s: dict[Step, float]) -> dict[str, Any]:
    seconds = {
        name: {f"{step}_s": spent_s for step, spent_s in of_step.items()}
        for name, of_step in (("extract_seconds", wall_s), ("extract_cpu_seconds", cpu_s))
    }
    return {**seconds, "extracted_at": time.time()}
