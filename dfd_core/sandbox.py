"""Work on videos in a child process with time and memory limits, so that no video can take its worker down.

A segfault, an endless decode, a memory bomb or an exit inside a library ends the child and becomes that video's row;
the next video gets a new child. As long as nothing happens, one child does one video after the other.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import resource
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import parent_process, reduction
from multiprocessing.context import SpawnContext, SpawnProcess, set_spawning_popen
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.spawn import get_command_line, get_preparation_data
from multiprocessing.util import Finalize, spawnv_passfds
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessPool

from dfd_core import storage
from dfd_core.config import ExtractConfig, Limits
from dfd_core.errors import (
    UnexpectedError,
    VideoCrashedError,
    VideoError,
    VideoOutOfMemoryError,
    VideoTimeoutError,
)

if TYPE_CHECKING:  # the worker itself never loads the video and face libraries
    from dfd_core.faces import Detect
    from dfd_core.probe import OpenVideo

_POLL_S = 0.1
_START_S = 300.0
_ANY_LENGTH_S = sys.float_info.max
_MB = 10**6
_HARD_LIMIT_FACTOR = 1.25
_PR_SET_PDEATHSIG = 1

Row = dict[str, Any]


class Sandbox:
    """Plans and extracts videos in a child process, which starts with the first of them and stays for the next.

    Made once per worker process; usable from any of its threads, one video at a time.
    """

    def __init__(
        self,
        config: ExtractConfig,
        *,
        open_video: OpenVideo = storage.open_video,
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
        self._child: _Child | None = None
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
        return again | {"probe_s": row["probe_s"] + again["probe_s"]}

    def _plan(self, request: Mapping[str, Any], config: ExtractConfig, timeout_s: float) -> Row:
        started_s = time.perf_counter()
        try:
            return self._run(
                _plan, request, config, self._open_video, name="Opening the video", timeout_s=timeout_s
            )
        except VideoError as error:
            from dfd_core.probe import failed_plan

            return failed_plan(request, error, lost_s=time.perf_counter() - started_s)

    def extract(self, segment: Mapping[str, Any]) -> Row:
        """Return the face crops (one row of `schemas.face_crops`) of a segment (one row of SEGMENT)."""
        started_s = time.perf_counter()
        timeout_s = self._config.limits.timeout_s(_duration_s(segment))
        try:
            return self._run(
                _extract, segment, self._config, self._open_video, name="The segment", timeout_s=timeout_s
            )
        except VideoError as error:
            from dfd_core.extract import failed_segment

            return failed_segment(segment, error, lost_s=time.perf_counter() - started_s)

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
        """Return the row; a child that was lost while it had nothing to do is replaced once."""
        try:
            try:
                return self._ready_child().run(*work, name=name, timeout_s=timeout_s)
            except BrokenProcessPool:
                self._drop_child()
                return self._ready_child().run(*work, name=name, timeout_s=timeout_s)
        except BrokenProcessPool as error:
            raise VideoCrashedError(storage.one_line(error)) from error

    def _ready_child(self) -> _Child:
        self._child = self._child or _Child(self._config.limits, self._detect)
        return self._child

    def _drop_child(self) -> None:
        if self._child:
            self._child.close()
        self._child = None


def _duration_s(segment: Mapping[str, Any]) -> float | None:
    end_s = segment["end_s"] if segment["end_s"] is not None else segment["duration_s"]
    return None if end_s is None else max(0.0, end_s - segment["start_s"])


# --- in the parent ------------------------------------------------------------------------------------------------


class _Child:
    """One process for one task after the other. After a task that raised it is of no more use, and is closed.

    A pool that lost its process would go on with another one, but over the same pipe, where the lost one may have
    left half a message.
    """

    def __init__(self, limits: Limits, detect: Detect | None) -> None:
        """Start the process.

        Raises:
            BrokenProcessPool: It does not start.
        """
        self._memory_mb = limits.memory_mb
        self._pool = ProcessPool(
            max_workers=1,
            initializer=_begin,
            initargs=(os.getpid(), limits.memory_mb, detect),
            context=_SpawnContext(),
        )
        # A thread of our own, because the kernel ends the child with the thread that started it. SIGINT is blocked in
        # it and so, from its first instruction on, in the child: Ctrl-C is the parent's business.
        starter = ThreadPoolExecutor(
            1, "sandbox", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        )
        self._end = weakref.finalize(self, _end_pool, self._pool, starter)
        try:
            started: Future[int] = starter.submit(self._pool.schedule, os.getpid).result()
            self.pid = started.result(_START_S)
        except (BrokenProcessPool, ProcessExpired, RuntimeError, TimeoutError) as error:
            self._end()
            raise BrokenProcessPool("The decoding process does not start") from error

    def close(self) -> None:
        """End the process at once, whatever it does."""
        self._end()

    def run(self, work: Callable[..., Row], *arguments: Any, name: str, timeout_s: float) -> Row:
        """Return what `work` returns for `arguments`.

        Raises:
            VideoError: It did not return within the limits, or at all.
            BrokenProcessPool: The process was lost before it began.
        """
        if not self._pool.active:
            raise BrokenProcessPool("The decoding process died")
        future = self._pool.schedule(_answer, args=(work, *arguments), timeout=timeout_s)
        while not wait([future], _POLL_S).done:
            self._check_memory(name)
            if not self._pool.active or not self._is_alive():
                wait([future], 10 * _POLL_S)  # in which pebble tells how it ended
                break
        if not future.done():  # it ended with status 0, which pebble does not count as a loss
            raise VideoCrashedError(f"The decoding process {_ending(0)}")
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise BrokenProcessPool("The decoding process died") from error
        if isinstance(error, ProcessExpired):
            raise VideoCrashedError(f"The decoding process {_ending(error.exitcode)}") from error
        if isinstance(error, TimeoutError):
            raise VideoTimeoutError(f"{name} took longer than {timeout_s:g} s") from error
        if error is not None:
            raise UnexpectedError(f"{type(error).__name__}: {storage.one_line(error)}") from error
        answer = pickle.loads(future.result())
        if isinstance(answer, VideoError):
            raise answer
        return dict(answer)

    def is_bloated(self) -> bool:
        """Return whether the process holds more than half of the memory that a video may take."""
        return self._memory_mb is not None and _resident_mb(self.pid) > self._memory_mb / 2

    def _check_memory(self, name: str) -> None:
        if self._memory_mb is not None and _resident_mb(self.pid) > self._memory_mb:
            os.kill(self.pid, signal.SIGKILL)
            raise VideoOutOfMemoryError(f"{name} took more than {self._memory_mb} MB of memory")

    def _is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _end_pool(pool: ProcessPool, starter: ThreadPoolExecutor) -> None:
    pool.stop()
    pool.join()
    starter.shutdown()


def _resident_mb(pid: int) -> float:
    """Return the resident memory of a process, MB (10^6 bytes); 0 if it is gone, or where there is no /proc."""
    return _memory_mb(pid, 1)


def _memory_mb(pid: int | str, field: int) -> float:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[field]) * resource.getpagesize() / _MB
    except (OSError, IndexError):
        return 0.0


def _ending(exit_code: int) -> str:
    """Return how a process ended, in words.

    >>> _ending(-11), _ending(3)
    ('was ended by signal 11 (SIGSEGV)', 'ended itself with status 3')
    """
    if exit_code >= 0:
        return f"ended itself with status {exit_code}"
    try:
        return f"was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"was ended by signal {-exit_code}"


# --- how the child is started -------------------------------------------------------------------------------------


class _Popen(Popen):
    """Starts an interpreter as multiprocessing does, except that it leaves the parent's main program alone.

    In a Ray worker that program is Ray's own, and importing it would load Ray. There is no resource tracker either,
    one more process per worker: nothing here needs one.
    """

    _fds: list[int]

    def _launch(self, process: SpawnProcess) -> None:
        preparation = get_preparation_data(process.name)
        preparation.pop("init_main_from_path", None)
        preparation.pop("init_main_from_name", None)
        message = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(preparation, message)
            reduction.dump(process, message)
        finally:
            set_spawning_popen(None)
        self.sentinel, child_w = os.pipe()
        child_r, parent_w = os.pipe()
        self.finalizer = Finalize(self, _close, (self.sentinel, parent_w))
        try:
            command: list[Any] = get_command_line(pipe_handle=child_r)
            self.pid = spawnv_passfds(command[0], command, [*self._fds, child_r, child_w])
        finally:
            _close(child_r, child_w)
        with open(parent_w, "wb", closefd=False) as file:  # OSError if the child is dead: child_r is closed
            file.write(message.getbuffer())


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process: Any) -> Any:
        return _Popen(process)


class _NoLock:
    """Stands for the locks by which pebble's workers share a pipe; here one has it for itself.

    A real one would be left locked by a process that is killed while it sends.
    """

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self) -> None:
        pass


class _SpawnContext(SpawnContext):
    Process = _Process

    def RLock(self) -> Any:
        return _NoLock()


# --- in the child -------------------------------------------------------------------------------------------------


def _begin(parent_pid: int, memory_mb: int | None, detect: Detect | None) -> None:
    """Prepare the child: it dies with its parent, leaves no core file, and has what a video needs loaded."""
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # a handler in Python would not run during an endless decode
    _die_with_parent(parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import cv2

    from dfd_core import extract, probe  # noqa: F401

    cv2.setNumThreads(1)  # a worker is one core
    if detect is not None:
        _detectors.append(detect)
    if memory_mb is not None:
        _limit_memory(memory_mb)


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":  # by the kernel, because the thread below may have to wait for a C function
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is None or os.getppid() != parent_pid:
        os._exit(1)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _limit_memory(memory_mb: int) -> None:
    """Make allocations far over the limit fail at once, faster than the parent could see them."""
    allocated_mb = _memory_mb("self", 5)
    if allocated_mb:
        limit_bytes = int((allocated_mb + memory_mb * _HARD_LIMIT_FACTOR) * _MB)
        _, most_bytes = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(
            resource.RLIMIT_DATA,
            (
                limit_bytes if most_bytes == resource.RLIM_INFINITY else min(limit_bytes, most_bytes),
                most_bytes,
            ),
        )


def _answer(work: Callable[..., Row], *arguments: Any) -> bytes:
    """Return what `work` returns, or a VideoError, pickled here, where a failure to do so can be told."""
    try:
        return pickle.dumps(work(*arguments), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        error: VideoError = VideoOutOfMemoryError("The faces need more memory than there is")
    except BaseException as fault:
        error = UnexpectedError(f"{type(fault).__name__}: {storage.one_line(fault)}")
    return pickle.dumps(error)


def _plan(request: Row, config: ExtractConfig, open_video: OpenVideo) -> Row:
    from dfd_core.probe import plan_video

    return plan_video(request, config, open_video=open_video)


def _extract(segment: Row, config: ExtractConfig, open_video: OpenVideo) -> Row:
    from dfd_core.extract import extract_segment

    return extract_segment(segment, config, _detector(), open_video=open_video)


_detectors: list[Detect] = []
"""The child's one detector, once it is there: it takes two seconds to make."""


def _detector() -> Detect:
    if not _detectors:
        from dfd_core.faces import FrontalFaceDetector

        _detectors.append(FrontalFaceDetector())
    return _detectors[0]
