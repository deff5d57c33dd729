"""What Prometheus can read of a run while it goes on, at each node's metrics port.

Ray puts `ray_` before the names. Each process counts for itself, so a query sums: `sum(rate(ray_dfd_faces_total[5m]))`.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ray.util.metrics import Counter


@lru_cache(maxsize=1)
def _counters() -> dict[str, Counter]:
    return {
        "videos": Counter("dfd_videos_total", "Videos of which every segment is done"),
        "segments": Counter("dfd_segments_total", "Segments done"),
        "faces": Counter("dfd_faces_total", "Faces found"),
        "failures": Counter("dfd_failures_total", "Videos and segments with an error", tag_keys=("kind",)),
        "stage_seconds": Counter(
            "dfd_stage_seconds_total", "Worker seconds spent in each stage", tag_keys=("stage",)
        ),
    }


def count(name: str, number: float) -> None:
    """Add `number` to `videos`, `segments` or `faces`."""
    if number > 0:
        _counters()[name].inc(number)


def count_failures(kinds: Iterable[str]) -> None:
    """Add to the failures of each kind."""
    for kind, number in Count(kinds).items():
        _counters()["failures"].inc(number, tags={"kind": kind})


def count_seconds(seconds: Mapping[str, float]) -> None:
    """Add to the seconds of each stage."""
    for stage, number in seconds.items():
        if number > 0:
            _counters()["stage_seconds"].inc(number, tags={"stage": stage})
