"""One child process that does one task after the other, with time and memory limits, and whose loss is an error."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import parent_process, reduction
from multiprocessing.context import SpawnContext, SpawnProcess, set_spawning_popen
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.spawn import get_command_line, get_preparation_data
from multiprocessing.util import Finalize, spawnv_passfds
from typing import Any, TypeVar, cast

from pebble import ProcessExpired, ProcessPool

from dfd_core.errors import (
    UnexpectedError,
    VideoCrashedError,
    VideoError,
    VideoOutOfMemoryError,
    VideoTimeoutError,
)
from dfd_core.storage.text import one_line

__all__ = ["BrokenProcessPool", "Child"]

_POLL_S = 0.1
_START_S = 300.0
_MB = 10**6
_HARD_LIMIT_FACTOR = 1.25
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


class Child:
    """One process for one task after the other. After a task that raised it is of no more use, and is closed.

    A pool that lost its process would go on with another one, but over the same pipe, where the lost one may have
    left half a message.
    """

    def __init__(self, prepare: Callable[..., None], *arguments: Any, memory_mb: int | None) -> None:
        """Start the process, and call `prepare` with `arguments` in it.

        Args:
            prepare: Picklable, as everything that passes between the processes.
            arguments: What it is called with.
            memory_mb: Resident memory that the process may take, MB (10^6 bytes); None for no limit.

        Raises:
            BrokenProcessPool: It does not start.
        """
        self._memory_mb = memory_mb
        self._pool = ProcessPool(
            max_workers=1,
            initializer=_begin,
            initargs=(os.getpid(), memory_mb, prepare, *arguments),
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
        except (OSError, RuntimeError, TimeoutError) as error:
            self._end()
            raise BrokenProcessPool("The decoding process does not start") from error

    def close(self) -> None:
        """End the process at once, whatever it does."""
        self._end()

    def run(self, work: Callable[..., T], *arguments: Any, name: str, timeout_s: float) -> T:
        """Return what `work` returns for `arguments`.

        Args:
            work: What to call in the process.
            arguments: What it is called with.
            name: Begins the message of a limit that was passed.
            timeout_s: Wall-clock seconds that it may take.

        Raises:
            VideoError: It did not return within the limits, or at all.
            BrokenProcessPool: The process was lost before it began, or was killed from outside.
        """
        num_oom_kills = _num_oom_kills()
        try:
            future = self._pool.schedule(_answer, args=(work, *arguments), timeout=timeout_s)
        except RuntimeError as lost:
            raise BrokenProcessPool("The decoding process died") from lost
        self._watch(future, name)
        if not future.done():
            raise _loss(0)  # which pebble does not count as a loss
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise BrokenProcessPool("The decoding process died") from error
        if isinstance(error, ProcessExpired):
            loss = _loss(error.exitcode, is_oom_kill=_num_oom_kills() > num_oom_kills)
            if error.exitcode == -signal.SIGKILL and isinstance(loss, VideoCrashedError):
                raise BrokenProcessPool(str(loss)) from error  # from outside: no video does that
            raise loss from error
        if isinstance(error, TimeoutError):
            raise VideoTimeoutError(f"{name} took longer than {timeout_s:g} s") from error
        if error is not None:
            raise UnexpectedError(f"{type(error).__name__}: {one_line(error)}") from error
        answer = pickle.loads(future.result())
        if isinstance(answer, VideoError):
            raise answer
        return cast(T, answer)

    def _watch(self, future: Future[bytes], name: str) -> None:
        """Return when the task has ended, or the process, of which pebble had the time to tell."""
        while not wait([future], _POLL_S).done:
            if self._memory_mb is not None and _resident_mb(self.pid) > self._memory_mb:
                os.kill(self.pid, signal.SIGKILL)
                raise VideoOutOfMemoryError(f"{name} took more than {self._memory_mb} MB of memory")
            if not (self._pool.active and self._is_alive()):
                wait([future], 10 * _POLL_S)
                return

    def is_bloated(self) -> bool:
        """Return whether the process holds more than half of the memory that a video may take."""
        return self._memory_mb is not None and _resident_mb(self.pid) > self._memory_mb / 2

    def _is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _end_pool(pool: ProcessPool, starter: ThreadPoolExecutor) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
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


def _num_oom_kills() -> int:
    """Return how many processes of this machine its kernel has killed for want of memory; 0 if it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def _loss(exit_code: int, *, is_oom_kill: bool = False) -> VideoError:
    """Return why a process ended in the middle of its task.

    >>> _loss(-11), _loss(3)  # doctest: +NORMALIZE_WHITESPACE
    (VideoCrashedError('The decoding process was ended by signal 11 (SIGSEGV)'),
     VideoCrashedError('The decoding process ended itself with status 3'))
    >>> _loss(-9, is_oom_kill=True)
    VideoOutOfMemoryError('The system ran out of memory and ended the decoding process')
    """
    if exit_code == -signal.SIGKILL and is_oom_kill:
        return VideoOutOfMemoryError("The system ran out of memory and ended the decoding process")
    if exit_code >= 0:
        return VideoCrashedError(f"The decoding process ended itself with status {exit_code}")
    names = {int(known): f" ({known.name})" for known in signal.Signals}
    return VideoCrashedError(
        f"The decoding process was ended by signal {-exit_code}{names.get(-exit_code, '')}"
    )


# --- how it is started --------------------------------------------------------------------------------------------


class _Popen(Popen):
    """Starts an interpreter as multiprocessing does, except that it leaves the parent's main program alone.

    In a Ray worker that program is Ray's own, and importing it would load Ray. There is no resource tracker either,
    one more process per worker: nothing here needs one.
    """

    _fds: list[int]

    def _launch(self, process: SpawnProcess) -> None:
        _leave_lost_folder()
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


def _leave_lost_folder() -> None:
    """Go on in a folder that exists, if the working directory is gone: a cluster may unpack a job's code anew.

    The new one of the same path is taken, if there is one.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        path = os.sep
        with suppress(OSError):  # where there is no /proc
            path = os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        os.chdir(path if os.path.isdir(path) else os.sep)


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


def _begin(parent_pid: int, memory_mb: int | None, prepare: Callable[..., None], *arguments: Any) -> None:
    """Prepare the child: it dies with its parent, leaves no core file, and has what its tasks need."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would not run during an endless decode
    _die_with_parent(parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prepare(*arguments)
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
        with suppress(ValueError):  # a lower limit holds already
            resource.setrlimit(
                resource.RLIMIT_DATA, (limit_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1])
            )


def _answer(work: Callable[..., Any], *arguments: Any) -> bytes:
    """Return what `work` returns, or a VideoError, pickled here, where a failure to do so can be told."""
    try:
        return pickle.dumps(work(*arguments), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        error: VideoError = VideoOutOfMemoryError("The result needs more memory than there is")
    except BaseException as fault:
        error = UnexpectedError(f"{type(fault).__name__}: {one_line(fault)}")
    return pickle.dumps(error)
