"""Says what a run waits for when nothing has finished for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfd.cluster.ray_internals import RunningTask

_NO_STAGE = ("Tally.", "AutoscalingCoordinator:", "datasets_stats_actor:")
"""Actors of this program and of Ray Data that no result waits for."""


class Watchdog:
    """Notices that a count has stayed as it is."""

    def __init__(self, patience_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        """Take the seconds after which a run that finishes nothing counts as stalled, and a clock."""
        self._patience_s = patience_s
        self._now_s = now_s
        self._count: int | None = None
        self._changed_s = self._told_s = now_s()

    @property
    def since_s(self) -> float:
        """Seconds since the count last changed."""
        return self._now_s() - self._changed_s

    def is_stalled(self, count: int | None) -> bool:
        """Return whether `count` has not changed for the watchdog's patience; True again each time that it passes.

        Args:
            count: What is done; None if that is not known now.
        """
        if count is not None and count != self._count:
            self._count = count
            self._changed_s = self._told_s = self._now_s()
        if self._now_s() - self._told_s < self._patience_s:
            return False
        self._told_s = self._now_s()
        return True


def standing(since_s: float, tasks: Iterable[RunningTask], *, now_s: float) -> str:
    """Return which stages stand, on which nodes, in which processes, as one line.

    Args:
        since_s: Seconds in which nothing has finished.
        tasks: What runs now.
        now_s: Seconds since 1970.
    """
    of_stages = (task for task in tasks if not task.name.startswith(_NO_STAGE))
    ordered = sorted(of_stages, key=lambda task: (task.name, task.node, task.since_s))
    stages = [
        _stage(name, node, list(group), now_s=now_s)
        for (name, node), group in groupby(ordered, key=lambda task: (task.name, task.node))
    ]
    running = (
        "; ".join(stages) if stages else "no task runs: the cluster has no place for one, see `ray status`"
    )
    return f"Nothing has finished for {clock(since_s)}: {running}. The run goes on"


def _stage(name: str, node: str, tasks: list[RunningTask], *, now_s: float) -> str:
    """Return what one stage does on one node; the first of `tasks` began first."""
    number = f"{len(tasks)} tasks, the longest" if len(tasks) > 1 else "one task"
    return f"{name} on {node or 'a node not known yet'}: {number} for {clock(now_s - tasks[0].since_s)} in process {tasks[0].pid}"


def clock(seconds: float) -> str:
    """Return a duration as people say it.

    >>> clock(3725)
    '1 h 02 min'
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
