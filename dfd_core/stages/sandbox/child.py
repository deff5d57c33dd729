"""The child's main loop. It starts with rights, prepares, gives them up, and only then sees a byte of a video."""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dfd_core.errors import UnexpectedError, VideoError, VideoOutOfMemoryError
from dfd_core.stages.sandbox.answer import encoded_answer
from dfd_core.stages.sandbox.channel import ANSWER, READY, ChildChannel
from dfd_core.stages.sandbox.confine import confine
from dfd_core.storage.text import one_line

_PR_SET_PDEATHSIG = 1
_HARD_LIMIT_FACTOR = 1.25
_MB = 10**6


def main(descriptor: int, parent_pid: int) -> None:
    """Serve the parent at the other end of `descriptor` until it closes it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would not run during an endless decode
    _die_with_parent(parent_pid)
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(True)  # the parent may have had a default timeout when it made the pair
    channel = ChildChannel(connection)
    _, content, _ = channel.receive()
    prepare, arguments, memory_mb, is_confined = pickle.loads(content)
    prepare(*arguments)
    _go_silent()
    if memory_mb is not None:
        _limit_memory(memory_mb)
    report = confine() if is_confined else {"level": "off"}
    channel.send(READY, json.dumps(report).encode())
    with suppress(EOFError):
        while True:
            _serve(channel)


def _serve(channel: ChildChannel) -> None:
    _, content, descriptors = channel.receive()
    ticket, work, arguments, max_bytes = channel.task(content, descriptors)
    result = _result(work, arguments)
    for descriptor in descriptors:
        os.close(descriptor)
    channel.send(ANSWER, ticket, *encoded_answer(result, max_bytes=max_bytes))


def _result(work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any] | VideoError:
    try:
        return work(*arguments)
    except MemoryError:
        return VideoOutOfMemoryError("The result needs more memory than there is")
    except BaseException as fault:
        return UnexpectedError(f"{type(fault).__name__}: {one_line(fault)}")


def _die_with_parent(parent_pid: int) -> None:
    """Let the kernel end this process with its parent, even in an endless C function."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _go_silent() -> None:
    """Write nothing to the terminal from now on: a video could make it do things."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _limit_memory(memory_mb: int) -> None:
    """Make allocations far over the limit fail at once, before the parent can see them."""
    with suppress(OSError, ValueError):  # no /proc, or a lower limit already
        with open("/proc/self/statm", "rb") as file:
            allocated = int(file.read().split()[5]) * resource.getpagesize()
        limit = int(allocated + memory_mb * _HARD_LIMIT_FACTOR * _MB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
