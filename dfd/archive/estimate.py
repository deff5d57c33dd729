"""`--estimate`: time a sample of a run's own segments on the cluster at hand, and say what the run will cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from dfd.archive.watchdog import clock
from dfd.cluster.pools import Pools
from dfd.cluster.runtime import LOG, plain_errors
from dfd_core.run import estimate
from dfd_core.run.estimate import Prediction, Quantity, SegmentCost, Stratum
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.worklist import Worklist

_BUDGET_S = 60.0
_MOST_EACH = 200

Extract = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Placement:
    """What the cluster gives the two stages as it is now.

    Attributes:
        num_slots: Segments that are extracted at a time.
        num_actors: Actors that score at a time.
        extract_options: How Ray places an extraction.
        actor_options: How Ray places an actor.
    """

    num_slots: int
    num_actors: int
    extract_options: dict[str, Any]
    actor_options: dict[str, Any]

    @classmethod
    def of(cls, pools: Pools, *, num_cpus: int, num_gpus: float) -> Placement:
        """Return what `pools` asks for of a cluster of this size."""
        return cls(
            pools.num_slots(num_cpus),
            pools.actor_range(num_cpus=num_cpus, max_cpus=num_cpus, max_gpus=num_gpus)[1],
            pools.extract_options(),
            pools.actor_options(num_gpus),
        )

    @property
    def has_gpus(self) -> bool:
        """Whether scoring has devices of its own."""
        return bool(self.actor_options.get("num_gpus"))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A prediction and what it rests on.

    Attributes:
        num_timed: Segments that were timed.
        start_s: Wall-clock seconds until the model was loaded.
        output_bytes: Of the log and of `faces/`.
        picture_bytes: Of the pictures that a segment keeps, on average.
    """

    prediction: Prediction
    placement: Placement
    num_timed: int
    start_s: float
    output_bytes: Quantity
    picture_bytes: float

    @property
    def work_s(self) -> Quantity:
        """Wall-clock seconds of the work at the cluster's present size, without the start."""
        return self.prediction.work_s(
            num_slots=self.placement.num_slots,
            num_actors=self.placement.num_actors,
            shares_cpus=not self.placement.has_gpus,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `run.json` keeps."""
        names = ("num_faces", "extract_s", "extract_cpu_s", "score_s")
        return {
            "segments_timed": self.num_timed,
            "scored_on": "gpu" if self.placement.has_gpus else "cpu",
            "slots": self.placement.num_slots,
            "actors": self.placement.num_actors,
            "start_s": round(self.start_s, 1),
            "slots_per_actor": self.prediction.slots_per_actor,
            **{name: getattr(self.prediction, name).as_json() for name in names},
            "output_bytes": self.output_bytes.as_json(),
            "picture_bytes_per_segment": round(self.picture_bytes),
            "work_s": self.work_s.as_json(),
        }


def measure(
    out: OutputFolder, *, extract: Extract, scorer: Callable[..., Any], placement: Placement, block_rows: int
) -> Estimate:
    """Time segments of every stratum until about a minute is over, and return what all of them will cost.

    Extraction and scoring are timed one after the other, so that neither disturbs the other's seconds. Nothing is
    committed: the run does these segments again.

    Args:
        out: The output folder; its segments are listed.
        extract: A block of SEGMENT → face crops; runs in Ray tasks.
        scorer: Makes an object that turns face crops into SEGMENT_RESULT; becomes a Ray actor.
        placement: What the cluster gives them.
        block_rows: Segments that one task takes, as in the run.

    Raises:
        DfdError: A worker raised it.
    """
    began_s = time.monotonic()
    strata = estimate.strata_of(out, most_each=_MOST_EACH)
    with plain_errors():
        actor = ray.remote(_Scorer).options(**placement.actor_options).remote(scorer)
        task = partial(ray.remote(_extracted).options(**placement.extract_options).remote, extract)
        ray.get(actor.ready.remote())
        start_s = time.monotonic() - began_s
        costs, results = _time_sample(strata, task, actor, placement.num_slots * block_rows, block_rows)
        ray.kill(actor)
    prediction = estimate.predict(strata, costs)
    per_face = estimate.bytes_per_face(results)
    pairs = zip(
        *((q.value, q.low, q.high) for q in (prediction.log_bytes, prediction.num_faces)), strict=True
    )
    output_bytes = Quantity(*(log + faces * per_face for log, faces in pairs))
    return Estimate(prediction, placement, len(costs), start_s, output_bytes, estimate.picture_bytes(results))


def _time_sample(
    strata: Sequence[Stratum], task: Callable[[pa.Table], Any], actor: Any, wave_rows: int, block_rows: int
) -> tuple[list[SegmentCost], list[pa.Table]]:
    """Time wave after wave, each with segments of every stratum that has some left."""
    costs: list[SegmentCost] = []
    results: list[pa.Table] = []
    each = max(2, -(-wave_rows // len(strata)))  # of one, no spread is known
    began_s = time.monotonic()
    for first in range(0, _MOST_EACH, each):
        parts = [(number, stratum.segments.slice(first, each)) for number, stratum in enumerate(strata)]
        numbers = [number for number, part in parts for _ in range(part.num_rows)]
        if not numbers:
            break
        rows = pa.concat_tables([part for _, part in parts])
        LOG.info("Timing %d segments of %d kinds", rows.num_rows, len(strata))
        wave_s = time.monotonic()
        blocks = [task(rows.slice(start, block_rows)) for start in range(0, len(rows), block_rows)]
        ray.wait(blocks, num_returns=len(blocks))  # scoring must not run beside them
        if not results:
            ray.get([actor.score.remote(block) for block in blocks])  # the first calls warm up
        scored = [ray.get(actor.score.remote(block)) for block in blocks]
        costs += _costs(rows.to_pylist(), numbers, scored)
        results += scored
        now_s = time.monotonic()
        if now_s - began_s + (now_s - wave_s) > _BUDGET_S:
            break
    return costs, results


def _costs(segments: list[dict[str, Any]], numbers: list[int], results: list[pa.Table]) -> list[SegmentCost]:
    rows = [
        (row, estimate.log_bytes(block) / block.num_rows) for block in results for row in block.to_pylist()
    ]
    return [
        SegmentCost(
            stratum=number,
            footage_s=estimate.footage_s(segment),
            extract_s=sum(row["extract_seconds"].values()),
            extract_cpu_s=sum(row["extract_cpu_seconds"].values()),
            score_s=row["infer_s"],
            num_faces=len(row["faces"]),
            log_bytes=size,
        )
        for segment, number, (row, size) in zip(segments, numbers, rows, strict=True)
    ]


def _extracted(extract: Extract, segments: pa.Table) -> pa.Table:
    return pa.concat_tables(extract(segments))  # type: ignore[arg-type]


class _Scorer:
    """An actor that scores a block when it is told to."""

    def __init__(self, scorer: Callable[..., Any]) -> None:
        self._score = scorer()

    def ready(self) -> None:
        """Return when the model is loaded."""

    def score(self, crops: pa.Table) -> pa.Table:
        """Return the results of a block of face crops."""
        return self._score(crops)


def tell(found: Estimate, work: Worklist) -> str:
    """Return the estimate as text for a person."""
    prediction, placement = found.prediction, found.placement
    device = "GPU" if placement.has_gpus else "CPU"
    ratio = prediction.slots_per_actor
    balance = "no face was found in the sample" if ratio is None else (
        f"{ratio:,.1f} extraction slots keep one {device} actor busy; here there are {placement.num_slots} for {placement.num_actors}"
    )  # fmt: skip
    lines = [
        ("videos", f"{work.num_videos:,}, {work.num_unopened:,} of them cannot be opened"),
        ("footage", f"{work.footage_s / 3600:,.2f} hours in {work.num_open:,} segments, {found.num_timed:,} of them timed"),
        ("faces", _between(prediction.num_faces, "{:,.0f}")),
        ("extraction", _between(prediction.extract_cpu_s.scaled(1 / 3600), "{:,.3g}") + " CPU-hours"),
        ("scoring", _between(prediction.score_s.scaled(1 / 3600), "{:,.3g}") + f" {device}-actor-hours"),
        ("time here", f"{_clocks(found.work_s)}, after {found.start_s:.0f} s to load the model"),
        ("balance", balance),
        ("output", _output(found, work)),
    ]  # fmt: skip
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _output(found: Estimate, work: Worklist) -> str:
    """Return what the log and `faces/` will weigh, and what of the log `pictures/` holds again at most."""
    megabytes = _between(found.output_bytes.scaled(1e-6), "{:,.3g}") + " MB"
    pictures = found.picture_bytes * work.num_open / 1e6
    return f"{megabytes}, and pictures of at most {pictures:,.3g} MB" if pictures else megabytes


def _between(quantity: Quantity, form: str) -> str:
    value, low, high = (form.format(getattr(quantity, name)) for name in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"


def _clocks(quantity: Quantity) -> str:
    value, low, high = (clock(getattr(quantity, name)) for name in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"
