"""Work on videos in a child process that has no rights and few resources, so that no video can do harm.

A segfault, an endless decode, a memory bomb or an exit inside a library ends the child and becomes that video's row, as
does a child that was taken over. The next video gets a new child. While nothing happens, one child does one video after
the other. The parent opens the videos: the child gets an open descriptor, or the bytes that it asks for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from dfd_core.config import ExtractConfig
from dfd_core.errors import (
    ERROR_KINDS,
    SandboxError,
    UnexpectedError,
    VideoCrashedError,
    VideoError,
    VideoOutOfMemoryError,
)
from dfd_core.schemas import SEGMENT_PICTURES, VIDEO_PLAN, face_crops, to_table
from dfd_core.stages.budget import share_of
from dfd_core.stages.sandbox import work
from dfd_core.stages.sandbox.parent import Child, ChildLostError
from dfd_core.storage.text import one_line
from dfd_core.video.opening import open_video, retried

if TYPE_CHECKING:  # the worker itself never loads the video and face libraries
    from dfd_core.faces.detect import Detect
    from dfd_core.stages.probe import OpenVideo

_ANY_LENGTH_S = sys.float_info.max
_PAUSES_S = (0.2, 5.0)
_MAX_CROPS_BYTES, _MAX_PICTURES_BYTES = 512 * 10**6, 1100 * 10**6

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
        """Take what each video is worked on with.

        Args:
            config: What leaves a video, and what it may cost. Pickled for the child.
            open_video: Opens a video's address, in this process. Picklable.
            detect: The face detector, pickled for the child; None for the one that `config` names.
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

        def attempt() -> Row:
            started_s = time.perf_counter()
            try:
                with closing(self._opened(request["uri"])) as file:
                    task = work.plan, dict(request), config, file
                    return self._run(*task, schema=VIDEO_PLAN, name="Opening the video", timeout_s=timeout_s)
            except VideoError as error:
                from dfd_core.stages.probe import failed_plan

                return failed_plan(request, error, lost_s=time.perf_counter() - started_s)

        return retried(attempt)

    def extract(self, segment: Mapping[str, Any]) -> Row:
        """Return what `extract.extract_segment` makes of a segment (one row of SEGMENT)."""
        config = self._config

        def attempt() -> Row:
            started_s = time.perf_counter()
            try:
                with closing(self._opened(segment["uri"])) as file:
                    return self._run(work.extract, dict(segment), config, file, **self._limits(segment))
            except VideoError as error:
                from dfd_core.stages.extract import failed_segment

                return failed_segment(segment, error, config, lost_s=time.perf_counter() - started_s)

        return retried(attempt)

    def crop(self, run: Mapping[str, Any], pictures: Mapping[str, Any]) -> Row:
        """Return the face crops (one row of `schemas.face_crops`) of a run of pictures (`pictures.pictures_of`)."""
        started_s = time.perf_counter()
        try:
            return self._run(work.crop, dict(run), pictures, self._config, **self._limits(None))
        except VideoError as error:
            from dfd_core.stages.extract import failed_segment

            lost_s = time.perf_counter() - started_s
            wanted = pictures["num_frames_wanted"]
            return failed_segment(run, error, self._config, lost_s=lost_s) | {"num_frames_wanted": wanted}

    def start(self) -> int:
        """Start the child, if there is none, and return the number of its process; another may follow it.

        Raises:
            ChildLostError: It does not start.
        """
        with self._lock:
            return self._ready_child().pid

    def confinement(self) -> dict[str, Any]:
        """Return what keeps the child in: a `level` of `confine.LEVELS`, and which layers are on. Starts it if need be.

        Raises:
            ChildLostError: It does not start.
            SandboxError: `--sandbox require`, and the system offers less.
        """
        with self._lock:
            return self._ready_child().confinement

    def confinement_now(self) -> dict[str, Any] | None:
        """Return the same of the child that is there, None if there is none."""
        child = self._child
        return child.confinement if child else None

    def close(self) -> None:
        """End the child, if there is one. A later video starts another."""
        with self._lock:
            self._drop_child()

    @property
    def _faces_schema(self) -> pa.Schema:
        if self._config.image_format is not None:
            return SEGMENT_PICTURES
        return face_crops(self._config.crop_px, pictures=self._config.pictures)

    def _limits(self, segment: Mapping[str, Any] | None) -> dict[str, Any]:
        duration_s = None if segment is None else _duration_s(segment)
        limits = {
            "timeout_s": self._config.limits.timeout_s(duration_s),
            "max_cpu_s": self._config.limits.cpu_s(1.0 if segment is None else share_of(segment)),
        }
        return {"schema": self._faces_schema, "name": "The segment", **limits}

    def _opened(self, uri: str) -> BinaryIO:
        """Return the video at `uri`, opened here, where the rights to do so are.

        Raises:
            VideoError: It cannot be opened.
        """
        try:
            return self._open_video(uri)
        except VideoError:
            raise
        except Exception as fault:  # a fault of ours must cost one row, not the archive
            raise UnexpectedError(f"{type(fault).__name__}: {one_line(fault)}") from fault

    def _run(self, task: Callable[..., Row], asked: Row, *more: Any, schema: pa.Schema, **limits: Any) -> Row:
        """Return the row of `schema` that `task` makes of `asked` in the child.

        `limits` are those of `Child.run`.

        Raises:
            VideoError: The child was lost, or what it made is not such a row.
        """
        with self._lock:
            try:
                row = self._attempt(task, asked, *more, **limits)
                row = _checked(row, asked, schema)
            except BaseException:
                self._drop_child()
                raise
            if row.get("error_kind") == VideoOutOfMemoryError.kind or (
                self._child and self._child.is_bloated()
            ):
                self._drop_child()  # what it still holds would be blamed on the next video
            return row

    def _attempt(self, *task: Any, **limits: Any) -> Row:
        """Return the row; a child that does not start, or that was lost without the video's doing, is replaced.

        The pauses are for a machine whose processes are all being ended: this one is next then, and the video another
        worker's.
        """
        max_bytes = _MAX_CROPS_BYTES if self._config.image_format is None else _MAX_PICTURES_BYTES
        for pause_s in (*_PAUSES_S, None):
            try:
                return self._ready_child().run(*task, **limits, max_answer_bytes=max_bytes)
            except ChildLostError as error:
                self._drop_child()
                if pause_s is None:
                    raise VideoCrashedError(one_line(error)) from error
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _ready_child(self) -> Child:
        limits = self._config.limits
        if self._child is None:
            self._child = Child(
                *(work.prepare, self._config, self._detect, self._open_video),
                memory_mb=limits.memory_mb,
                is_confined=limits.sandbox != "off",
            )
        found = self._child.confinement
        if limits.sandbox == "require" and found["level"] != "full":
            self._drop_child()
            raise SandboxError(f"--sandbox require: this system cannot confine a process fully: {found}")
        return self._child

    def _drop_child(self) -> None:
        if self._child:
            self._child.close()
        self._child = None


def _checked(row: Row, asked: Row, schema: pa.Schema) -> Row:
    """Return a row of the child if it is one of `schema`, under the names of what it was asked for.

    Raises:
        UnexpectedError: It is not.
    """
    names = {name: asked[name] for name in ("plan_key", "segment_id") if name in schema.names}
    message = row.get("error_message")
    row = row | names | {"error_message": None if message is None else one_line(str(message))}
    try:
        to_table([row], schema)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as fault:
        raise UnexpectedError(f"The decoding process sent no row: {one_line(fault)}") from fault
    if row.get("error_kind") not in (None, *ERROR_KINDS):
        raise UnexpectedError("The decoding process sent an unknown kind of error")
    return row


def _duration_s(segment: Mapping[str, Any]) -> float | None:
    end_s = segment["end_s"] if segment["end_s"] is not None else segment["duration_s"]
    return None if end_s is None else max(0.0, end_s - segment["start_s"])
