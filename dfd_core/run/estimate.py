"""What a run will cost, from a stratified sample of its own segments.

Segments are put into strata of like frame size and like length. In each stratum the sample's cost for a second of footage
is carried over to all of its footage (the separate ratio estimator; Cochran, "Sampling Techniques", 1977, 6.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import MANIFEST, SEGMENT, SEGMENT_RESULT, check
from dfd_core.step_clock import STEPS
from dfd_core.storage.tables import dataset, dataset_of_file, num_bytes

_NUM_RESAMPLES = 2000
_INTERVAL = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Open segments of like frame size and length.

    Attributes:
        num_segments: How many there are.
        footage_s: Seconds of video in them; 0 where no header told.
        segments: Those to time, in the order in which to take them: SEGMENT.
    """

    num_segments: int
    footage_s: float
    segments: pa.Table


@dataclass(frozen=True, slots=True)
class SegmentCost:
    """What one segment of the sample took.

    Attributes:
        stratum: Position of its stratum.
        footage_s: Seconds of video in it.
        extract_s: Wall-clock seconds of its extraction, which took one CPU slot.
        extract_cpu_s: CPU seconds of its extraction.
        score_s: Wall-clock seconds of its scoring, by one actor that nothing else disturbed.
        num_faces: Faces found.
        log_bytes: Bytes that its result takes in Parquet.
    """

    stratum: int
    footage_s: float
    extract_s: float
    extract_cpu_s: float
    score_s: float
    num_faces: int
    log_bytes: float


@dataclass(frozen=True, slots=True)
class Quantity:
    """A predicted total, and between what it lies in 90 % of the resampled samples.

    The interval knows the sample's spread only: not a machine that becomes slower, nor a stratum of which one segment was timed.
    """

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Quantity:
        """Return the quantity in another unit.

        >>> Quantity(7200.0, 3600.0, 10800.0).scaled(1 / 3600)
        Quantity(value=2.0, low=1.0, high=3.0)
        """
        return Quantity(self.value * factor, self.low * factor, self.high * factor)

    def as_json(self) -> dict[str, float]:
        """Return the three numbers, rounded to four digits."""
        return {name: float(f"{getattr(self, name):.4g}") for name in ("value", "low", "high")}


@dataclass(frozen=True, slots=True)
class Prediction:
    """Totals over all open segments; the attributes are those of `SegmentCost`, summed."""

    extract_s: Quantity
    extract_cpu_s: Quantity
    score_s: Quantity
    num_faces: Quantity
    log_bytes: Quantity

    def work_s(self, *, num_slots: int, num_actors: int, shares_cpus: bool) -> Quantity:
        """Return the wall-clock seconds of the work, start-up not included.

        Where scoring has devices of its own, the slower stage decides; where it shares the CPUs with extraction, each
        waits for the other.

        Args:
            num_slots: Segments that are extracted at a time.
            num_actors: Actors that score at a time.
            shares_cpus: Whether scoring runs on the CPUs that extraction uses.
        """
        extract, score = self.extract_s.scaled(1 / num_slots), self.score_s.scaled(1 / num_actors)
        pairs = zip(
            (extract.value, extract.low, extract.high), (score.value, score.low, score.high), strict=True
        )
        return Quantity(*(sum(pair) if shares_cpus else max(pair) for pair in pairs))

    @property
    def slots_per_actor(self) -> float | None:
        """Extraction slots that keep one scoring actor busy; fewer starve it, more wait for it. None without faces."""
        return self.extract_s.value / self.score_s.value if self.score_s.value > 0 else None


def strata_of(out: OutputFolder, *, most_each: int) -> list[Stratum]:
    """Return the strata of the segments that are still to do, the costliest first.

    Strata differ by a factor of two in pixels a frame or of four in length. Within one the order is random and always
    the same, so that taking the first ones is a random sample.

    Args:
        out: The output folder; its segments are listed.
        most_each: At most so many segments of each are given.
    """
    with database() as db:
        db.register("manifest", dataset_of_file(out.manifest, MANIFEST))
        db.register("listed", dataset(out.segment_list, SEGMENT))
        out.plan_log.register(db, "plans")
        committed = out.segment_log.committed()
        db.register("committed", pa.table({"segment_id": committed}))
        db.execute(
            """
            CREATE TEMP TABLE open AS
            SELECT segment_id, coalesce(end_s, listed.duration_s, 0) - start_s AS length_s,
                   coalesce(width::BIGINT * height, 0) AS pixels,
                   printf('%d %d', floor(log2(greatest(pixels, 1)))::INT, floor(log2(greatest(length_s, 1)) / 2)::INT) AS stratum
            FROM listed ANTI JOIN committed USING (segment_id)
                 JOIN plans USING (plan_key)
            """
        )
        totals = db.sql(
            """SELECT stratum, count(*), sum(length_s) FROM open
               GROUP BY stratum ORDER BY sum(length_s * pixels) DESC, stratum"""
        ).fetchall()
        names = ", ".join(SEGMENT.names)
        return [
            Stratum(count, float(footage_s), _first(db, names, stratum, most_each))
            for stratum, count, footage_s in totals
        ]


def _first(db: duckdb.DuckDBPyConnection, names: str, stratum: str, count: int) -> pa.Table:
    reader = db.sql(
        f"""SELECT {names} FROM listed SEMI JOIN
                   (SELECT segment_id FROM open WHERE stratum = $stratum ORDER BY hash(segment_id) LIMIT $count)
                   USING (segment_id) ORDER BY hash(segment_id)""",
        params={"stratum": stratum, "count": count},
    ).to_arrow_reader(count)
    return check(reader.read_all().cast(SEGMENT), SEGMENT)


def footage_s(segment: dict[str, Any]) -> float:
    """Return the seconds of video in a segment (SEGMENT); 0.0 where no header told."""
    end_s = segment["end_s"] if segment["end_s"] is not None else segment["duration_s"]
    return float(end_s - segment["start_s"]) if end_s is not None else 0.0


def predict(strata: Sequence[Stratum], costs: Sequence[SegmentCost], *, seed: int = 0) -> Prediction:
    """Return the totals over all segments of `strata`.

    Args:
        strata: As `strata_of` returns them.
        costs: Of at least one segment of each stratum.
        seed: Of the resampling.

    Raises:
        ValueError: A stratum has no segment in the sample.
    """
    missing = set(range(len(strata))) - {cost.stratum for cost in costs}
    if missing:
        raise ValueError(f"Expected a cost in every stratum. Received: none in {sorted(missing)}")
    names = Prediction.__slots__
    totals = np.zeros((len(names), 1 + _NUM_RESAMPLES))
    random = np.random.default_rng(seed)
    for position, stratum in enumerate(strata):
        sample = [cost for cost in costs if cost.stratum == position]
        values = np.array([[getattr(cost, name) for cost in sample] for name in names], np.float64)
        lengths_s = np.array([cost.footage_s for cost in sample])
        drawn = np.vstack(
            [np.arange(len(sample)), random.integers(0, len(sample), (_NUM_RESAMPLES, len(sample)))]
        )
        totals += _carried_over(values[:, drawn], lengths_s[drawn], stratum)
    low, high = np.quantile(totals[:, 1:], _INTERVAL, axis=1)
    quantities = [
        Quantity(float(value), float(low), float(high))
        for value, low, high in zip(totals[:, 0], low, high, strict=True)
    ]
    return Prediction(*quantities)


def _carried_over(
    values: npt.NDArray[np.float64], lengths_s: npt.NDArray[np.float64], stratum: Stratum
) -> npt.NDArray[np.float64]:
    """Return the stratum's totals (quantity, draw) of samples (quantity, draw, segment) of lengths (draw, segment)."""
    sums, sums_s = values.sum(axis=2), lengths_s.sum(axis=1)
    by_count = sums * (stratum.num_segments / values.shape[2])
    with np.errstate(divide="ignore", invalid="ignore"):
        by_length = sums * (stratum.footage_s / sums_s)
    totals: npt.NDArray[np.float64] = np.where((sums_s > 0) & (stratum.footage_s > 0), by_length, by_count)
    return totals


def spent(out: OutputFolder) -> dict[str, float]:
    """Return what the committed segments have taken: the quantities of an estimate that a run can be held to."""
    cpu_s = " + ".join(f"extract_cpu_seconds.{step}_s" for step in STEPS)
    with database() as db:
        db.register("listed", dataset(out.segment_list, SEGMENT))
        out.segment_log.register(db, "results")
        num_faces, extract_cpu_s = db.sql(
            f"""SELECT coalesce(sum(len(faces)), 0), coalesce(sum({cpu_s}), 0)
               FROM results SEMI JOIN listed USING (segment_id)"""
        ).fetchall()[0]
    folders = (out.segment_log.data, out.segment_log.checkpoint, out.faces)
    return {
        "num_faces": int(num_faces),
        "extract_cpu_s": float(extract_cpu_s),
        "output_bytes": sum(map(num_bytes, folders)),
    }


def compared(predicted: dict[str, Any], after: dict[str, float]) -> dict[str, Any]:
    """Return what a run took of each predicted quantity, and how much of the prediction that is; None where it was 0.

    Args:
        predicted: The estimate in `run.json`, with what was `spent` `before` it.
        after: What is `spent` now.
    """
    actual = {name: after[name] - predicted["before"][name] for name in after}
    values = {name: predicted[name]["value"] for name in actual}
    return {
        "actual": actual,
        "actual_of_predicted": {
            name: round(actual[name] / value, 3) if value else None for name, value in values.items()
        },
    }


def log_bytes(results: pa.Table) -> int:
    """Return the bytes that one block of results (SEGMENT_RESULT) takes: its Parquet file and that of its commit."""
    return _parquet_bytes(check(results, SEGMENT_RESULT)) + _parquet_bytes(results.select(["segment_id"]))


def bytes_per_face(results: Sequence[pa.Table]) -> float:
    """Return the bytes that a face of `results` (SEGMENT_RESULT) takes in `faces/`, a file's own ones not counted."""
    faces = pa.concat_tables(results).column("faces").combine_chunks().flatten()
    if not len(faces):
        return 0.0
    table = pa.Table.from_struct_array(faces)
    return (_parquet_bytes(table) - _parquet_bytes(table.slice(0, 0))) / len(faces)


def picture_bytes(results: Sequence[pa.Table]) -> float:
    """Return the bytes of the pictures that a segment of `results` (SEGMENT_RESULT) keeps, on average."""
    kept = pa.concat_tables(results).column("pictures").combine_chunks()
    sizes = pc.binary_length(kept.flatten().field("jpeg"))
    return (pc.sum(sizes).as_py() or 0) / max(1, len(kept))


def _parquet_bytes(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return int(sink.getvalue().size)
