"""What the user sees while the job runs: a line every few seconds in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfd.archive import tally
from dfd.archive.watchdog import Watchdog, clock, standing
from dfd.cluster.ray_internals import running_tasks
from dfd_core.run.worklist import Worklist

LOG = logging.getLogger("dfd")
_EVERY_S = 5.0


Tally = ray.remote(num_cpus=0)(tally.Tally)
"""The actor that counts."""


class Progress:
    """Logs the tally every few seconds while its block runs."""

    def __init__(self, work: Worklist, *, stall_s: float, waits_for: str = "the first faces") -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.tally: Any = Tally.options(scheduling_strategy=here).remote(work.open_segments)
        self._waits_for = waits_for
        self.model: dict[str, str] | None = None
        self.busy_share: float | None = None
        """Of the time that score actors were there, the share in which they had something to score."""
        self.extract_s = 0.0
        """Worker seconds that went into extraction."""
        self.first_at: dict[str, float] = {}
        """When the first model was loaded and the first result was there, seconds on this machine's clock."""
        self.profile: tuple[str | None] | None = None
        """How the recording of a worker ended: (None,) if it is kept, else (why not,); None without one."""
        self.sandbox: dict[str, Any] | None = None
        """How the least confined decoding process is confined; None if nothing was decoded."""
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._watchdog = Watchdog(stall_s)
        self._shows_lines = not sys.stdout.isatty()
        """Whether to log what is done: a terminal has Ray Data's bars."""
        self._first: tuple[float, int, int] | None = None  # the start-up must not count as work

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._read()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            state = self._read()
            if state and self._shows_lines:
                LOG.info(self._line(state))
            if self._watchdog.is_stalled((state or {}).get("segments")):
                LOG.warning("%s", standing(self._watchdog.since_s, running_tasks(), now_s=time.time()))

    def _read(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = ray.get(self.tally.read.remote(), timeout=_EVERY_S)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return None
        self.model = state["model"] or self.model
        self.extract_s = state["extract_s"]
        self.first_at = state["first_at"]
        self.profile = state["profile"]
        self._take_sandbox(state["sandbox"])
        self.busy_share = state["busy_s"] / state["actor_s"] if state["actor_s"] else None
        return state

    def _take_sandbox(self, found: dict[str, Any] | None) -> None:
        """Keep what is known of the confinement, and warn once if it is not full."""
        if found and found != self.sandbox:
            self.sandbox = found
            if found["level"] != "full":
                LOG.warning("Decoding processes are not fully confined, level %s", found["level"])

    def _line(self, state: dict[str, Any]) -> str:
        work, done = self._work, state["segments"]
        shown = (
            f"{work.done_videos + state['videos']:,} of {work.num_videos:,} videos, {state['faces']:,} faces, "
            f"{work.num_unopened + state['faulty_videos']:,} with an error"
        )
        if not done:
            return f"{shown}, waiting for {'the first faces' if state['model'] else self._waits_for}"
        if self._first is None:
            self._first = (time.monotonic(), done, state["videos"])
        since_s, segments, videos = (
            now - then
            for now, then in zip((time.monotonic(), done, state["videos"]), self._first, strict=True)
        )
        if not segments:
            return shown
        left_s = (work.num_open - done) * since_s / segments
        return f"{shown}, {videos / since_s * 60:,.1f} videos/min, {clock(left_s)} left"
