"""Lose power at random moments and cut files at random bytes, start again, and compare the tables with undisturbed ones.

    python -m benchmarks.drill_torn --rounds 30 --seed 1

Each round fills an output folder with a plan and results that are known beforehand, through the same code as a run: Ray Data's checkpoint writer,
the log, its merging, the tables. Now and then the power goes instead of a sync: what was not synced by then is lost, wholly or in part
(`benchmarks/power_loss.py`). Half of the rounds also cut files of the folder at a random byte. The run starts again, without `--repair` where the log can be
believed, else with it. Prints one table; exit status 1 if a row was lost, doubled or changed, or if a power loss alone made a repair necessary.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_writer import BatchBasedCheckpointWriter

from benchmarks.power_loss import ForgetfulDisk, PowerLoss
from dfd_core.answers.aggregate import finish
from dfd_core.config import Aggregation
from dfd_core.errors import OutputError
from dfd_core.run import worklist
from dfd_core.run.commit_log import CommitLog
from dfd_core.run.compaction import compact
from dfd_core.run.hashes import read_hashes, remove_hashes, write_hashes
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.repair import repair_folder
from dfd_core.run.run_record import RunRecord
from dfd_core.run.verify import verify_outputs
from dfd_core.schemas import MANIFEST, SEGMENT_RESULT, VIDEO_PLAN, to_table

_CONFIGURATION = {"source": "drill"}
_TABLES = ("videos", "faces", "tracks", "spans")


@dataclass(frozen=True)
class Truth:
    """What an undisturbed run has: its manifest, its log, its tables."""

    manifest: pa.Table
    plans: pa.Table
    results: pa.Table
    tables: dict[str, pa.Table]
    num_syncs: int = 0


@dataclass
class Drill:
    """What happened.

    Attributes:
        attempts: Runs that were started.
        power_losses: Of these, how many lost power.
        torn: Files that a loss of power left in part.
        cut: Files that were cut afterwards.
        repairs: Attempts that needed `--repair`.
        kept: Rows that a repair found in damaged files.
        faults: What went wrong; empty if every promise held.
    """

    attempts: int = 0
    power_losses: int = 0
    torn: int = 0
    cut: int = 0
    repairs: int = 0
    kept: int = 0
    faults: list[str] = field(default_factory=list)


def make_truth(folder: Path, *, num_videos: int) -> Truth:
    """Return a plan and results of made-up videos of one to three segments, and the tables of an undisturbed run."""
    keys = [f"key{number:03d}" for number in range(num_videos)]
    rows = [
        {"manifest_row": n, "video_id": f"v/{key}.mp4", "uri": f"/v/{key}.mp4", "plan_key": key, "size_bytes": n, "modified_ns": n}
        for n, key in enumerate(keys)
    ]  # fmt: skip
    plans = [
        _filled(VIDEO_PLAN, plan_key=key, error_kind=None, segments=_segments(n))
        for n, key in enumerate(keys)
    ]
    results = [
        _filled(
            SEGMENT_RESULT,
            segment_id=f"{key}-{position:05d}",
            plan_key=key,
            error_kind=None,
            faces=_faces(n, position),
        )
        for n, key in enumerate(keys)
        for position in range(n % 3 + 1)
    ]
    truth = Truth(
        to_table(rows, MANIFEST), to_table(plans, VIDEO_PLAN), to_table(results, SEGMENT_RESULT), {}
    )
    folder.mkdir()
    disk = ForgetfulDisk(folder)
    with disk.watched():
        run_once(truth, folder, random.Random(0), repair=False)
    return replace(truth, tables=tables_of(folder), num_syncs=disk.num_syncs)


def _segments(number: int) -> list[dict[str, Any]]:
    fields = VIDEO_PLAN.field("segments").type.value_type
    whole = dict.fromkeys(field.name for field in fields)
    return [whole | {"start_s": float(position)} for position in range(number % 3 + 1)]


def _faces(number: int, position: int) -> list[dict[str, Any]]:
    fields = SEGMENT_RESULT.field("faces").type.value_type
    return [
        _filled(
            fields,
            frame_index=100 * position + frame,
            time_s=4 * position + frame / 25,
            face_index=0,
            p_fake=(number * 7 + frame) % 100 / 100,
        )
        for frame in range((number + position) % 5)
    ]


def _filled(fields: pa.Schema | pa.StructType, **given: Any) -> dict[str, Any]:
    """Return a row with `given`, something plain for the other fields that need a value, and null for the rest."""
    row = {
        name: None if field.nullable else _plain(field.type) for name, field in ((f.name, f) for f in fields)
    }
    return row | given


def _plain(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return _filled(kind)
    if pa.types.is_list(kind):
        return []
    return "x" if pa.types.is_string(kind) else 1


def tables_of(folder: Path) -> dict[str, pa.Table]:
    """Return the tables of an output folder."""
    return {name: ds.dataset(folder / name).to_table() for name in _TABLES}


def run_once(truth: Truth, folder: Path, chance: random.Random, *, repair: bool) -> int:
    """Do in `folder` what is left to do, as one run does, and return how many rows a repair has kept.

    Raises:
        OutputError: The folder is damaged.
    """
    out = OutputFolder.at(str(folder))
    record = RunRecord.read_or_mend(out) if repair else RunRecord.read(out)
    record = record or RunRecord.new(_CONFIGURATION, None)
    record.refuse_other(_CONFIGURATION)
    record.begin()
    remove_hashes(out)
    record.write(out)
    logs = (out.plan_log, out.segment_log)
    for log in logs:
        log.settle()
    kept = repair_folder(out).num_kept if repair else 0
    for log in logs:
        log.refuse_damage()
    worklist.write_manifest(out, truth.manifest)
    commit(out.plan_log, _only(truth.plans, worklist.unplanned(out).column("plan_key")), chance)
    work = worklist.list_segments(out, num_cpus=2)
    open_segments = (
        ds.dataset(work.address.path).to_table().column("segment_id") if work.num_open else pa.array([])
    )
    commit(out.segment_log, _only(truth.results, open_segments), chance)
    if chance.random() < 0.5:
        compact(out.segment_log, most_files=3)
    finish(out, aggregation=Aggregation.parse("mean"), threshold=0.5, model_id="m")
    record.end("complete")
    record.write(out)
    write_hashes(out, None)
    return kept


def _only(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    return rows.filter(
        pc.is_in(
            rows.column(0),
            value_set=pa.chunked_array(ids.chunks, pa.string()) if len(ids) else pa.array([], pa.string()),
        )
    )


def commit(log: CommitLog, rows: pa.Table, chance: random.Random) -> None:
    """Commit `rows` in blocks of random size, in the order in which Ray Data commits a block."""
    config = CheckpointConfig(
        log.id_column,
        log.checkpoint.path,
        delete_checkpoint_on_success=False,
        override_filesystem=log.checkpoint.durable_fs,
    )
    while rows.num_rows:
        block, rows = rows[: (size := chance.randint(1, 8))], rows[size:]
        name = f"drill{chance.getrandbits(64):016x}"
        writer = BatchBasedCheckpointWriter(config)
        pending = writer.write_pending_checkpoint(block.column(0), name)
        ds.write_dataset(
            block,
            log.data.path,
            basename_template=f"{name}-{{i}}.parquet",
            filesystem=log.data.durable_fs,
            format="parquet",
            file_options=ds.ParquetFileFormat().make_write_options(write_page_checksum=True),
            existing_data_behavior="overwrite_or_ignore",
        )
        writer.commit_checkpoint(pending)


def cut_files(folder: Path, chance: random.Random) -> int:
    """Cut one to three files of the log or the record at a random byte and return how many."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and _is_kept(path.relative_to(folder))
    ]
    chosen = chance.sample(files, min(len(files), chance.randint(1, 3)))
    for path in chosen:
        size = path.stat().st_size
        with open(path, "r+b") as file:
            file.truncate(chance.randrange(size) if size else 0)
    return len(chosen)


def _is_kept(path: Path) -> bool:
    """Return whether a run reads this file of an earlier one; of the record, the copy stays whole."""
    return (
        path.parts[0] in ("segments", "checkpoint")
        or path.parts[:2] == ("plan", "videos")
        or str(path) == "run.json"
    )


def disturbed(truth: Truth, scratch: Path, chance: random.Random, drill: Drill, *, losses: int) -> None:
    """Fill a folder while the power goes `losses` times, and compare it with the truth."""
    folder = scratch / "attempt0"
    folder.mkdir(parents=True)
    is_cut_too = chance.random() < 0.5
    for number in range(losses + 1):
        syncs_left = (
            chance.randrange(truth.num_syncs) if number < losses else None
        )  # the last attempt may end
        disk = ForgetfulDisk(folder, syncs_left=syncs_left)
        with disk.watched():
            _attempt(truth, folder, chance, drill, is_cut_too=is_cut_too)
        if not disk.has_crashed:
            break
        drill.power_losses += 1
        folder = scratch / f"attempt{number + 1}"
        folder.mkdir()
        drill.torn += disk.leave(folder, chance)
        drill.cut += cut_files(folder, chance) if is_cut_too else 0
    _compare(truth, folder, drill)


def _attempt(truth: Truth, folder: Path, chance: random.Random, drill: Drill, *, is_cut_too: bool) -> None:
    drill.attempts += 1
    try:
        run_once(truth, folder, chance, repair=False)
    except PowerLoss:
        pass
    except OutputError as error:
        drill.repairs += 1
        if not is_cut_too:
            drill.faults.append(f"a loss of power alone needed a repair: {error}")
        with suppress(PowerLoss):
            drill.kept += run_once(truth, folder, chance, repair=True)


def _compare(truth: Truth, folder: Path, drill: Drill) -> None:
    found = tables_of(folder)
    drill.faults += [
        f"{name}/ differs in {folder}" for name in _TABLES if not found[name].equals(truth.tables[name])
    ]
    out = OutputFolder.at(str(folder))
    drill.faults += [f"{folder}: {difference}" for difference in verify_outputs(out, read_hashes(out))]


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--videos", default=40, show_default=True)
def main(rounds: int, seed: int, videos: int) -> None:
    """Lose power, cut files, and compare."""
    chance, drill = random.Random(seed), Drill()
    with tempfile.TemporaryDirectory(prefix="dfd-torn-") as scratch:
        truth = make_truth(Path(scratch) / "undisturbed", num_videos=videos)
        for number in range(rounds):
            disturbed(truth, Path(scratch) / f"round{number}", chance, drill, losses=chance.randint(1, 4))
            if drill.faults:
                break
    counts = Counter(vars(drill) | {"faults": len(drill.faults), "rounds": rounds})
    names = ("rounds", "attempts", "power_losses", "torn", "cut", "repairs", "kept", "faults")
    print("  ".join(f"{name.replace('_', ' '):>12}" for name in names))
    print("  ".join(f"{counts[name]:>12}" for name in names))
    for fault in drill.faults:
        print(fault)
    sys.exit(1 if drill.faults else 0)


if __name__ == "__main__":
    main()
