"""Why a child process ended, and what it held."""

from __future__ import annotations

import signal
from typing import Protocol

from dfd_core.errors import VideoCrashedError, VideoOutOfMemoryError

_SUSPICIOUS_MB = 300


class ChildLostError(Exception):
    """The process does not start, or was lost without the video's doing."""


class _Seen(Protocol):
    resident_mb: float


def num_oom_kills() -> int:
    """Return how many processes of this one's control group, else of the machine, the kernel killed for want of memory.

    A child is in its parent's group.
    """
    return _counted(_control_group() + "/memory.events") or _counted("/proc/vmstat")


def _control_group() -> str:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return next(("/sys/fs/cgroup" + line[3:].rstrip() for line in file if line.startswith("0::")), "")
    except OSError:
        return ""


def _counted(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def loss_of(
    exit_code: int | None, seen: _Seen, *, had_oom_kill: bool = False
) -> VideoCrashedError | VideoOutOfMemoryError | ChildLostError:
    """Return why a process ended in the middle of its task.

    A kill for want of memory counts as the child's own only if the child held much: the counter is of all processes.

    Args:
        exit_code: As `subprocess` gives it; None if the process lives and closed its connection.
        seen: What the process held when it was last looked at.
        had_oom_kill: Whether the kernel killed a process meanwhile.
    """
    if exit_code is None:
        return VideoCrashedError("The decoding process closed its connection")
    if exit_code >= 0:
        return VideoCrashedError(f"The decoding process ended itself with status {exit_code}")
    names = {int(known): f" ({known.name})" for known in signal.Signals}
    text = f"The decoding process was ended by signal {-exit_code}{names.get(-exit_code, '')}"
    if exit_code != -signal.SIGKILL:
        return VideoCrashedError(text)
    if had_oom_kill and seen.resident_mb > _SUSPICIOUS_MB:
        return VideoOutOfMemoryError("The system ran out of memory and ended the decoding process")
    return ChildLostError(text)  # from outside: no video does that
