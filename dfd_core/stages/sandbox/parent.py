"""One confined child process that does one task after the other, watched by its parent."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any

from dfd_core.errors import VideoTimeoutError
from dfd_core.stages.sandbox import channel
from dfd_core.stages.sandbox.answer import decoded_answer, nonsense
from dfd_core.stages.sandbox.loss import ChildLostError, loss_of, num_oom_kills
from dfd_core.stages.sandbox.watch import POLL_S, Watch, resident_mb
from dfd_core.storage.range_file import RangeFile
from dfd_core.storage.reasons import reason_of

__all__ = ["Child", "ChildLostError"]

_START_S = 300.0
_END_S = 10.0
_MAX_REPORT_BYTES = 10_000
_BOOT = (
    "import json, sys; descriptor, parent_pid, *sys.path[:] = json.loads(sys.argv[1]); "
    "from dfd_core.stages.sandbox.child import main; main(descriptor, parent_pid)"
)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""A worker is one core, and Landlock restricts only the thread that asks for it."""


class Child:
    """One process for one task after the other. After a task that raised it is of no more use, and is closed."""

    def __init__(
        self, prepare: Callable[..., None], *arguments: Any, memory_mb: int | None, is_confined: bool = True
    ) -> None:
        """Start the process, call `prepare` with `arguments` in it, and confine it.

        Args:
            prepare: Picklable, as its arguments.
            arguments: What it is called with.
            memory_mb: Resident memory that the process may take, MB (10^6 bytes); None for no limit.
            is_confined: Whether it gives up its rights before the first task.

        Raises:
            ChildLostError: It does not start.
        """
        self._memory_mb = memory_mb
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(True)  # whatever the default timeout is at this moment
        self._reader = ThreadPoolExecutor(1, "video reader")
        try:
            with theirs:
                self._process = _started(theirs.fileno())
            self._end = weakref.finalize(self, _end_process, self._process, self._connection, self._reader)
        except OSError as error:
            self._connection.close()
            raise ChildLostError("The decoding process does not start") from error
        self.pid = self._process.pid
        self._ticket = secrets.token_bytes(channel.TICKET_BYTES)
        try:
            setup = pickle.dumps((prepare, arguments, memory_mb, is_confined), pickle.HIGHEST_PROTOCOL)
            self._send(channel.SETUP, setup, timeout_s=_START_S)
            deadline_s = time.monotonic() + _START_S
            kind, report = self._receive(lambda: _refuse_late(deadline_s), _MAX_REPORT_BYTES)
            if kind != channel.READY:
                raise ChildLostError("The decoding process does not start")
            self.confinement: dict[str, Any] = json.loads(report)
        except (OSError, EOFError, VideoTimeoutError) as error:
            self._end()
            raise ChildLostError("The decoding process does not start") from error

    def close(self) -> None:
        """End the process at once, whatever it does."""
        self._end()

    def run(
        self,
        work: Callable[..., Any],
        *arguments: Any,
        name: str,
        timeout_s: float,
        max_answer_bytes: int,
        max_cpu_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the row that `work` returns for `arguments`. Open files among them are served to the child.

        Args:
            work: What to call in the process.
            arguments: What it is called with.
            name: Begins the message of a limit that was passed.
            timeout_s: Wall-clock seconds that it may take.
            max_answer_bytes: The longest answer.
            max_cpu_s: CPU seconds that it may take.

        Raises:
            VideoError: It did not return within the limits, or at all, or not a row.
            ChildLostError: The process was lost before it began, or was killed from outside.
        """
        ticket, before = secrets.token_bytes(channel.TICKET_BYTES), self._ticket
        self._ticket = ticket
        content, descriptors, files = channel.pickled_task((ticket, work, arguments, max_answer_bytes))
        watch = Watch(self.pid, name, timeout_s=timeout_s, memory_mb=self._memory_mb, max_cpu_s=max_cpu_s)
        kills_before = num_oom_kills()
        try:
            self._send(channel.TASK, content, descriptors=descriptors, timeout_s=timeout_s)
        except OSError as error:
            raise ChildLostError("The decoding process died") from error
        try:
            while True:
                kind, message = self._receive(watch.look, max_answer_bytes + channel.TICKET_BYTES)
                if kind == channel.ANSWER and message.startswith(ticket):
                    return decoded_answer(memoryview(message)[channel.TICKET_BYTES :])
                if kind == channel.ANSWER and message.startswith(before):
                    raise ChildLostError("The decoding process answered the task before once more")
                if kind != channel.READ:
                    raise nonsense()
                self._send_range(files, message, watch)
        except (OSError, EOFError) as error:
            had_oom_kill = num_oom_kills() > kills_before
            raise loss_of(self._exit_code(), watch, had_oom_kill=had_oom_kill) from error

    def is_bloated(self) -> bool:
        """Return whether the process holds more than half of the memory that a video may take."""
        return self._memory_mb is not None and resident_mb(self.pid) > self._memory_mb / 2

    def _exit_code(self) -> int | None:
        """Return how the process ended, None if it closed its connection and lives."""
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return None

    def _send(
        self, kind: bytes, content: bytes, *, descriptors: list[int] | None = None, timeout_s: float
    ) -> None:
        self._connection.settimeout(min(timeout_s, threading.TIMEOUT_MAX / 2))
        header = channel.HEADER.pack(kind, len(content))
        if descriptors:
            socket.send_fds(self._connection, [header], descriptors)
        else:
            self._connection.sendall(header)
        self._connection.sendall(content)

    def _receive(self, look: Callable[[], None], max_bytes: int) -> tuple[bytes, bytearray]:
        """Return the next message, calling `look` every now and then, which may raise."""
        kind, length = channel.HEADER.unpack(self._exactly(channel.HEADER.size, look))
        if length > max_bytes:
            raise nonsense()
        return kind, self._exactly(length, look)

    def _exactly(self, size: int, look: Callable[[], None]) -> bytearray:
        content = bytearray(size)
        view = memoryview(content)
        self._connection.settimeout(POLL_S)
        while view:
            look()
            with suppress(TimeoutError):
                count = self._connection.recv_into(view)
                if not count:
                    raise EOFError
                view = view[count:]
        return content

    def _send_range(self, files: list[RangeFile], request: bytearray, watch: Watch) -> None:
        """Send what the child asks for of a remote file, read in a thread so that its time is limited too."""
        if len(request) != channel.RANGE.size:
            raise nonsense()
        number, offset, size = channel.RANGE.unpack(request)
        if number >= len(files) or size > channel.MAX_READ_BYTES or offset > files[number].size:
            raise nonsense()
        reading = self._reader.submit(_range_of, files[number], offset, size)
        while True:
            watch.look()
            try:
                kind, content = reading.result(POLL_S)
                break
            except NotYet:
                continue
        self._send(kind, content, timeout_s=watch.left_s())


def _refuse_late(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise VideoTimeoutError("The decoding process took too long to start")


def _range_of(file: RangeFile, offset: int, size: int) -> tuple[bytes, bytes]:
    try:
        file.seek(offset)
        return channel.DATA, file.read(size)
    except Exception as error:
        reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
        return channel.FAILURE, reason.encode()


def _started(descriptor: int) -> subprocess.Popen[bytes]:
    """Return the process, started by a thread that waits for its end.

    The kernel ends the child with the thread that started it. SIGINT is blocked in that thread and so, from its first
    instruction on, in the child: Ctrl-C is the parent's business.
    """
    _leave_lost_folder()
    path = [os.path.abspath(entry) for entry in sys.path]
    command = [sys.executable, "-I", "-c", _BOOT, json.dumps([descriptor, os.getpid(), *path])]
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _ONE_THREAD
    outcome: list[subprocess.Popen[bytes] | OSError] = []
    is_there = threading.Event()

    def start_and_wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command, env=environment, cwd=os.sep, stdin=subprocess.DEVNULL, pass_fds=[descriptor]
            )
        except OSError as error:
            outcome.append(error)
            is_there.set()
            return
        outcome.append(process)
        is_there.set()
        process.wait()

    threading.Thread(target=start_and_wait, name="sandbox", daemon=True).start()
    is_there.wait()
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _end_process(
    process: subprocess.Popen[bytes], connection: socket.socket, reader: ThreadPoolExecutor
) -> None:
    connection.close()
    process.kill()
    process.wait()
    reader.shutdown(wait=False, cancel_futures=True)


def _leave_lost_folder() -> None:
    """Change to a folder that exists, if the working directory is gone: a cluster may unpack a job's code anew.

    A new one at the same path is taken, if there is one.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        path = os.sep
        with suppress(OSError):  # no /proc
            path = os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        os.chdir(path if os.path.isdir(path) else os.sep)
