"""`run.json`: what ran, with what, and how each attempt ended."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self

from dfd_core.config import Aggregation, identity
from dfd_core.errors import OutputError
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.repair import set_aside
from dfd_core.run.worklist import Worklist
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes, write_bytes
from dfd_core.storage.text import one_line

_PACKAGES = (
    "dfd",
    "ray",
    "tensorflow",
    "keras",
    "dlib-bin",
    "av",
    "opencv-python-headless",
    "numpy",
    "pyarrow",
    "duckdb",
)


_MAY_CHANGE = "limits"
_ENDED = ("complete", "too_many_failed")


class RunRecord:
    """The content of `run.json`. Only this class reads and writes it.

    Attributes:
        values: What the file holds.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def new(cls, configuration: dict[str, Any], model: dict[str, Any] | None) -> Self:
        """Return the record of a run that has not begun; without a model, it says nothing of one."""
        return cls(
            {
                "outcome": "running",
                "configuration": configuration,
                "configuration_id": identity(configuration),
                **({} if model is None else {"model": model}),
                "versions": versions(),
                "attempts": [],
            }
        )

    @classmethod
    def read(cls, out: OutputFolder) -> Self | None:
        """Return the record of the output folder, or None if it has none.

        Raises:
            OutputError: It cannot be read.
        """
        return cls._read(out.run_json) if exists(out.run_json) else None

    @classmethod
    def read_or_mend(cls, out: OutputFolder) -> Self | None:
        """Return what `read` returns; put the copy in the place of a damaged record, which is moved to the quarantine.

        Without a copy and without anything committed, a damaged record is the first one of a run, and there is none.

        Raises:
            OutputError: The copy cannot be read either.
        """
        try:
            return cls.read(out)
        except OutputError:
            is_first = not exists(out.run_json_copy) and not out.plan_log.data_files()
            record = None if is_first else cls._read(out.run_json_copy)
            set_aside(out.run_json, out.quarantine / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
            if record is not None:
                record.write(out)
            return record

    @classmethod
    def _read(cls, address: Address) -> Self:
        try:
            values = json.loads(read_bytes(address))
            return cls(
                {
                    **values,
                    "configuration": dict(values["configuration"]),
                    "attempts": list(values["attempts"]),
                }
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{address} cannot be read: {one_line(error)}") from error

    @property
    def num_derivations(self) -> int:
        """How many attempts came to their end, each of which derived the tables."""
        return sum(attempt["outcome"] in _ENDED for attempt in self.values["attempts"])

    def write(self, out: OutputFolder) -> None:
        """Write the record; a reader sees the old one or this one.

        Raises:
            OutputError: It cannot be written.
        """
        content = (
            json.dumps(_finite(self.values), indent=2, ensure_ascii=False, default=str, allow_nan=False)
            + "\n"
        )
        try:
            folder = out.run_json_copy
            folder.fs.create_dir(folder.parent, recursive=True)
            for address in (out.run_json, out.run_json_copy):
                write_bytes(address, content.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise OutputError(f"{out.run_json} cannot be written: {one_line(error)}") from error

    def refuse_other(self, configuration: dict[str, Any]) -> None:
        """Check that the folder was made with `configuration`, limits apart: a failure may be tried again with others.

        Raises:
            OutputError: It was not; the message has the names and both values of what differs.
        """
        mine = self.values["configuration"]
        if "detector" in configuration and "detector" not in mine:  # folders of before there was a choice
            mine = {**mine, "detector": "dlib", "detector_version": configuration.get("detector_version")}
        names = [
            name
            for name in {**mine, **configuration}
            if name != _MAY_CHANGE and mine.get(name) != configuration.get(name)
        ]
        if names:
            pairs = "; ".join(
                f"{name} was {mine.get(name)!r}, now {configuration.get(name)!r}" for name in names
            )
            raise OutputError(
                f"The output folder belongs to another configuration: {pairs}. "
                "Choose another folder, or start anew with --overwrite, which moves the old results aside."
            )

    def begin(self, **facts: Any) -> None:
        """Add an attempt that has just begun."""
        self.values["outcome"] = "running"
        self.values["attempts"].append({"started_at": _now(), "outcome": "running", **facts})

    def end(self, outcome: str, **facts: Any) -> None:
        """Note how the last attempt ended: `complete`, `too_many_failed`, `interrupted` or `broken`."""
        self.values["outcome"] = outcome
        self.values["attempts"][-1] |= {"finished_at": _now(), "outcome": outcome, **facts}

    def throughput(
        self,
        work: Worklist,
        *,
        wall_s: float,
        num_cpus: int,
        extract_s: float,
        score_busy_share: float | None,
        writing: Mapping[str, float],
        start_s: Mapping[str, float],
    ) -> None:
        """Note how fast the segments of this attempt went, start-up of the workers and the model included.

        Args:
            work: What was to do.
            wall_s: Wall-clock seconds that it took.
            num_cpus: CPUs of the cluster.
            extract_s: Worker seconds of extraction.
            score_busy_share: Share of the score actors' time in which they scored; None without such.
            writing: `write_s`, `write_cpu_s` and `spilled_mb` of this attempt.
            start_s: Seconds from the start of the command until this and that was there.
        """
        self.values["throughput"] = {
            "segments": work.num_open,
            "footage_s": round(work.footage_s, 3),
            "wall_s": round(wall_s, 3),
            "footage_s_per_wall_s": round(work.footage_s / wall_s, 3),
            "segments_per_wall_s": round(work.num_open / wall_s, 3),
            "num_cpus": num_cpus,
            "extract_busy_share": round(extract_s / (wall_s * num_cpus), 3),
            "spilled_mb": round(writing["spilled_mb"], 1),
            "start_s": {name: round(seconds, 1) for name, seconds in start_s.items()},
        }
        self.values["attempts"][-1] |= {name: round(writing[name], 3) for name in ("write_s", "write_cpu_s")}
        if score_busy_share is not None:
            self.values["throughput"]["score_busy_share"] = round(score_busy_share, 3)

    def _with_writing(self, counts: Counts) -> Counts:
        """Return `counts` with the seconds in which the attempts that came to their end wrote and committed."""
        wall_s, cpu_s = (
            round(sum(attempt.get(name, 0.0) for attempt in self.values["attempts"]), 3)
            for name in ("write_s", "write_cpu_s")
        )
        return replace(
            counts,
            stage_s=counts.stage_s | {"write": wall_s},
            stage_cpu_s=counts.stage_cpu_s | {"write": cpu_s},
        )

    def tables(self, counts: Counts, aggregation: Aggregation | None = None) -> Counts:
        """Note what the tables hold, and return it with the seconds of writing as the last stage."""
        counts = self._with_writing(counts)
        if aggregation is not None:
            self.values["aggregation"] = str(aggregation)
        self.values.pop(
            "threshold", None
        )  # an earlier derivation's own; these tables have the model's unless told
        self.values["counts"] = counts.as_json()
        self.values["stage_seconds"] = counts.stage_s
        self.values["stage_cpu_seconds"] = counts.stage_cpu_s
        return counts


def _finite(value: Any) -> Any:
    """Return `value`; non-finite floats become null."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Return the versions of what a score depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
