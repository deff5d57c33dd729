"""What the workers of a run report, counted. Plain values: `dfd.archive.progress` makes an actor of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from dfd.cluster import metrics
from dfd_core.stages.sandbox.confine import LEVELS
from dfd_core.step_clock import STEPS


class Tally:
    """Counts what the workers report, wherever they run, each segment once.

    A task that Ray runs again, because its node was lost, reports its segments again.
    """

    def __init__(self, open_segments: Mapping[str, int]) -> None:
        """Take the number of segments left of each video that has more than one left, by `plan_key`."""
        self._open = dict(open_segments)
        self._counted: set[int] = set()
        """Hashes of the segments: of a million, the identifiers themselves would take 100 MB."""
        self._faulty: set[str] = set()
        self._is_profiled = False
        self._state: dict[str, Any] = {
            "segments": 0,
            "videos": 0,
            "faces": 0,
            "faulty_videos": 0,
            "model": None,
            "busy_s": 0.0,
            "actor_s": 0.0,
            "extract_s": 0.0,
            "first_at": {},
            "profile": None,
            "sandbox": None,
        }

    def loaded(self, precision: str, device: str) -> None:
        """Note how the model runs."""
        self._state["model"] = {"precision": precision, "device": device}
        self._state["first_at"].setdefault("model", time.time())

    def confined(self, found: dict[str, Any]) -> None:
        """Note how a worker's decoding process is confined; the least confined of all is kept."""
        least = self._state["sandbox"]
        if least is None or LEVELS.index(found["level"]) > LEVELS.index(least["level"]):
            self._state["sandbox"] = found

    def scored(self, busy_s: float, actor_s: float) -> None:
        """Note that a score actor worked for `busy_s` of the last `actor_s` seconds."""
        self._state["busy_s"] += busy_s
        self._state["actor_s"] += actor_s

    def add(
        self,
        segment_ids: Sequence[str],
        plan_keys: Sequence[str],
        num_faces: Sequence[int],
        error_kinds: Sequence[str | None],
        seconds: Mapping[str, float],
    ) -> None:
        """Count a block of results. A video is done with its last segment.

        Args:
            segment_ids: The block's segments.
            plan_keys: Their videos.
            num_faces: Their faces.
            error_kinds: Their errors; None for a segment without one.
            seconds: Worker seconds of the block by stage.
        """
        self._state["first_at"].setdefault("first_result", time.time())
        self._state["extract_s"] += sum(spent for stage, spent in seconds.items() if stage in STEPS)
        metrics.count_seconds(seconds)
        before = dict(self._state)
        kinds = []
        for segment_id, *result in zip(segment_ids, plan_keys, num_faces, error_kinds, strict=True):
            if (key := hash(segment_id)) not in self._counted:
                self._counted.add(key)
                self._add_segment(*result)
                kinds += filter(None, result[2:])
        for name in ("videos", "segments", "faces"):
            metrics.count(name, self._state[name] - before[name])
        metrics.count_failures(kinds)

    def _add_segment(self, plan_key: str, num_faces: int, error_kind: str | None) -> None:
        self._state["segments"] += 1
        self._state["faces"] += num_faces
        if error_kind is not None:
            self._faulty.add(plan_key)
            self._state["faulty_videos"] = len(self._faulty)
        left = self._open.pop(plan_key, 1) - 1
        if left:
            self._open[plan_key] = left
        else:
            self._state["videos"] += 1

    def take_profile(self) -> bool:
        """Return True to the first that asks."""
        taken, self._is_profiled = self._is_profiled, True
        return not taken

    def profiled(self, outcome: str | None) -> None:
        """Note that the recording has ended: None if it is kept, else why not."""
        self._state["profile"] = (outcome,)

    def read(self) -> dict[str, Any]:
        """Return what has been counted."""
        return self._state
