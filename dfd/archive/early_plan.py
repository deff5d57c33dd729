"""Open the first videos while Ray starts: of a small archive, all of them."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from dfd_core.config import ExtractConfig
from dfd_core.errors import VideoCrashedError, VideoOutOfMemoryError, VideoTimeoutError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import VIDEO_PLAN, to_table
from dfd_core.stages.sandbox import Sandbox

_PATIENCE_S = 5.0
_LEFT_TO_WORKERS = (VideoTimeoutError.kind, VideoCrashedError.kind, VideoOutOfMemoryError.kind)


class EarlyPlan:
    """Plans videos in the driver's own sandbox for as long as its block runs, and then commits them.

    For a cluster of this machine only: elsewhere the driver may not see what the workers see. A video that takes longer
    than a few seconds, or its process down, is left to the workers with their full limits.
    """

    def __init__(self, out: OutputFolder, config: ExtractConfig, videos: pa.Table) -> None:
        """Take the folder, what a video may cost, and the videos (REQUEST) that have no plan."""
        limits = replace(config.limits, timeout_factor=1e-9, timeout_floor_s=_PATIENCE_S)
        self._out = out
        self._videos = videos
        self._sandbox = Sandbox(replace(config, limits=limits))
        self._plans: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="early plan", daemon=True)

    def __enter__(self) -> EarlyPlan:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sandbox.close()
        if self._plans and kind is None:
            table = to_table(self._plans, VIDEO_PLAN)
            self._out.plan_log.append(table)

    def _run(self) -> None:
        for batch in self._videos.to_batches(max_chunksize=100):
            for request in batch.to_pylist():
                if self._stop.is_set():
                    return
                with suppress(OSError):  # the workers will tell
                    plan = self._sandbox.plan(request)
                    if plan["error_kind"] not in _LEFT_TO_WORKERS:
                        self._plans.append(plan)
