"""Work on videos in a child process with time and memory limits, so that no video can take its worker down.

A segfault, an endless decode, a memory bomb or an exit inside a library ends the child and becomes that video's row;
the next video gets a new child. As long as nothing happens, one child does one video after the other.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dfd_core.config import ExtractConfig
from dfd_core.errors import VideoCrashedError, VideoError, VideoOutOfMemoryError
from dfd_core.stages.child_process import BrokenProcessPool, Child
from dfd_core.storage.text import one_line
from dfd_core.video.opening import open_video

if TYPE_CHECKING:  # the worker itself never loads the video and face libraries
    from dfd_core.faces.detect import Detect
    from dfd_core.stages.probe import OpenVideo

_NICER = 10
"""Steps below the worker's priority: a model that loads beside busy cores is waited for by all of them."""
_ANY_LENGTH_S = sys.float_info.max
_PAUSES_S = (0.2, 5.0)

Row = dict[str, Any]


class Sandbox:
    """Plans and extracts videos in a child process, which starts with the first of them and stays for the next.

    Made once per worker process; usable from any of its threads, one video at a time.
    """

    def __init__(
        self,
        config: ExtractConfig,
        *,
        open_video: OpenVideo = open_video,
        detect: Detect | None = None,
    ) -> None:
        """Take what each video is worked on with; all of it is pickled for the child.

        Args:
            config: What leaves a video, and what it may cost.
            open_video: Opens a video's address, in the child.
            detect: The face detector; None for `FrontalFaceDetector()`, which the child makes at its first segment.
        """
        self._config = config
        self._open_video = open_video
        self._detect = detect
        self._child: Child | None = None
        self._lock = threading.Lock()

    def plan(self, request: Mapping[str, Any]) -> Row:
        """Return the plan (one row of VIDEO_PLAN) of a requested video (one row of REQUEST).

        The header has the time limit's floor. A video that must be indexed because it is cut into segments is then
        planned again with the limit for its duration.
        """
        header_only = replace(self._config, segment_s=_ANY_LENGTH_S)
        row = self._plan(request, header_only, self._config.limits.timeout_floor_s)
        duration_s = row["duration_s"]
        if row["error_kind"] or duration_s is None or duration_s <= self._config.segment_s:
            return row
        again = self._plan(request, self._config, self._config.limits.timeout_s(duration_s))
        if again["error_kind"] and again["duration_s"] is None:
            again |= {name: row[name] for name in ("fps", "duration_s", "width", "height")}
        return again | {name: row[name] + again[name] for name in ("probe_s", "probe_cpu_s")}

    def _plan(self, request: Mapping[str, Any], config: ExtractConfig, timeout_s: float) -> Row:
        started_s = time.perf_counter()
        try:
            return self._run(
                _plan, dict(request), config, self._open_video, name="Opening the video", timeout_s=timeout_s
            )
        except VideoError as error:
            from dfd_core.stages.probe import failed_plan

            return failed_plan(request, error, lost_s=time.perf_counter() - started_s)

    def extract(self, segment: Mapping[str, Any]) -> Row:
        """Return what `extract.extract_segment` makes of a segment (one row of SEGMENT)."""
        started_s = time.perf_counter()
        timeout_s = self._config.limits.timeout_s(_duration_s(segment))
        try:
            return self._run(
                _extract,
                dict(segment),
                self._config,
                self._open_video,
                name="The segment",
                timeout_s=timeout_s,
            )
        except VideoError as error:
            from dfd_core.stages.extract import failed_segment

            return failed_segment(segment, error, self._config, lost_s=time.perf_counter() - started_s)

    def crop(self, run: Mapping[str, Any], pictures: Mapping[str, Any]) -> Row:
        """Return the face crops (one row of `schemas.face_crops`) of a run of pictures (`face_reading.pictures_of`)."""
        started_s = time.perf_counter()
        timeout_s = self._config.limits.timeout_s(None)
        try:
            return self._run(
                _crop, dict(run), pictures, self._config, name="The segment", timeout_s=timeout_s
            )
        except VideoError as error:
            from dfd_core.stages.extract import failed_segment

            lost_s = time.perf_counter() - started_s
            wanted = pictures["num_frames_wanted"]
            return failed_segment(run, error, self._config, lost_s=lost_s) | {"num_frames_wanted": wanted}

    def start(self) -> int:
        """Start the child, if there is none, and return the number of its process; another may follow it.

        Raises:
            BrokenProcessPool: It does not start.
        """
        with self._lock:
            return self._ready_child().pid

    def close(self) -> None:
        """End the child, if there is one. A later video starts another."""
        with self._lock:
            self._drop_child()

    def _run(self, work: Callable[..., Row], *arguments: Any, name: str, timeout_s: float) -> Row:
        """Return the row that `work` makes in the child. `name` begins the message of a limit that was passed.

        Raises:
            VideoError: The child was lost, or what it made cannot be passed on.
        """
        with self._lock:
            try:
                row = self._attempt(work, *arguments, name=name, timeout_s=timeout_s)
            except BaseException:
                self._drop_child()
                raise
            if row["error_kind"] == VideoOutOfMemoryError.kind or (self._child and self._child.is_bloated()):
                self._drop_child()  # what it still holds would be blamed on the next video
            return row

    def _attempt(self, *work: Any, name: str, timeout_s: float) -> Row:
        """Return the row; a child that does not start, or that was lost without the video's doing, is replaced.

        After a pause, because where all processes of a machine are being ended this one is next, and the video is
        another worker's then.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                return self._ready_child().run(*work, name=name, timeout_s=timeout_s)
            except BrokenProcessPool as error:
                self._drop_child()
                if pause_s is None:
                    raise VideoCrashedError(one_line(error)) from error
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _ready_child(self) -> Child:
        self._child = self._child or Child(_prepare, self._detect, memory_mb=self._config.limits.memory_mb)
        return self._child

    def _drop_child(self) -> None:
        if self._child:
            self._child.close()
        self._child = None


def _duration_s(segment: Mapping[str, Any]) -> float | None:
    end_s = segment["end_s"] if segment["end_s"] is not None else segment["duration_s"]
    return None if end_s is None else max(0.0, end_s - segment["start_s"])


# --- in the child -------------------------------------------------------------------------------------------------


def _prepare(detect: Detect | None) -> None:
    """Load what a video needs, before the time of the first one runs."""
    import cv2

    from dfd_core.stages import (
        extract,  # noqa: F401
        probe,  # noqa: F401
    )

    cv2.setNumThreads(1)  # a worker is one core
    os.nice(_NICER)
    if detect is not None:
        _detectors.append(detect)


def _plan(request: Row, config: ExtractConfig, open_video: OpenVideo) -> Row:
    from dfd_core.stages.probe import plan_video

    return plan_video(request, config, open_video=open_video)


def _extract(segment: Row, config: ExtractConfig, open_video: OpenVideo) -> Row:
    from dfd_core.stages.extract import extract_segment

    return extract_segment(segment, config, _detector(), open_video=open_video)


def _crop(run: Row, pictures: Row, config: ExtractConfig) -> Row:
    from dfd_core.stages.pictures import crop_pictures

    return crop_pictures(run, pictures, config)


_detectors: list[Detect] = []
"""The child's one detector, once it is there: it takes two seconds to make."""


def _detector() -> Detect:
    if not _detectors:
        from dfd_core.faces.detect import FrontalFaceDetector

        _detectors.append(FrontalFaceDetector())
    return _detectors[0]
