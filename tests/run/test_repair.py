import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import OutputError
from dfd_core.run.commit_log import CommitLog
from dfd_core.run.repair import Repair, repair
from dfd_core.storage.address import Address

SCHEMA = pa.schema([("segment_id", pa.string()), ("value", pa.int64())])


def block(number, rows=2):
    ids = [f"s{number}-{row}" for row in range(rows)]
    return pa.table({"segment_id": ids, "value": list(range(rows))}, SCHEMA)


@pytest.fixture
def log(tmp_path):
    """Three committed blocks of two rows, a data file each."""
    found = CommitLog(
        Address.parse(str(tmp_path / "segments")),
        Address.parse(str(tmp_path / "checkpoint" / "segments")),
        SCHEMA,
    )
    for number in range(3):
        found.append(block(number))
    return found


@pytest.fixture
def quarantine(tmp_path):
    return Address.parse(str(tmp_path / "quarantine"))


def rows_of(log):
    return log.rows().to_table().sort_by("segment_id").to_pylist()


def file_of(log, number):
    return next(f for f in log.data_files() if pq.read_table(f)["segment_id"][0].as_py() == f"s{number}-0")


def test_a_whole_log_is_left_as_it_is(log, quarantine):
    before = sorted(os.listdir(log.data.path))
    assert repair(log, quarantine) == Repair()
    assert sorted(os.listdir(log.data.path)) == before
    assert not os.path.exists(quarantine.path)


@pytest.mark.parametrize("damage", ["empty", "cut", "zeroed", "gone", "text"])
def test_only_the_rows_of_a_damaged_file_are_done_again(log, quarantine, damage):
    file = file_of(log, 1)
    whole = Path(file).read_bytes()
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "zeroed": whole[:4] + b"\0" * 40 + whole[44:],
        "text": b"not a table",
        "gone": None,
    }[damage]
    os.remove(file)
    if content is not None:
        Path(file).write_bytes(content)
    if damage != "zeroed":  # a page that is zeros is found by who reads it
        with pytest.raises(OutputError, match=r"The log is damaged.*--repair"):
            log.refuse_damage()
    done = repair(log, quarantine)
    assert done.num_kept == 0
    assert len(done.files) == (1 if damage == "gone" else 2)
    assert sorted(log.committed().to_pylist()) == ["s0-0", "s0-1", "s2-0", "s2-1"]
    log.refuse_damage()
    if content is not None:
        kept = Path(quarantine.path) / "segments" / "data" / os.path.basename(file)
        assert kept.read_bytes() == content
    log.append(block(1))
    assert len(rows_of(log)) == 6


def test_identifiers_that_are_lost_cost_no_rows(log, quarantine):
    before = rows_of(log)
    name = os.path.basename(file_of(log, 1)).replace("-0.parquet", ".parquet")
    with open(os.path.join(log.checkpoint.path, name), "wb"):
        pass
    with pytest.raises(OutputError, match=r"The log is damaged.*--repair"):
        log.refuse_damage()
    assert repair(log, quarantine).num_kept == 2
    assert rows_of(log) == before
    log.refuse_damage()


def test_the_readable_row_groups_of_a_large_file_stay_committed(log, quarantine):
    many = block(9, rows=100)
    pq.write_table(many, (log.data / "merged-0.parquet").path, row_group_size=25, write_page_checksum=True)
    pq.write_table(many.select([0]), (log.checkpoint / "merged.parquet").path)
    path = (log.data / "merged-0.parquet").path
    with open(path, "r+b") as file:
        file.seek(pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset + 30)
        file.write(b"\xff" * 20)
    assert repair(log, quarantine).num_kept == 75
    left = set(log.committed().to_pylist())
    assert {f"s9-{row}" for row in range(100)} - left == {f"s9-{row}" for row in range(25, 50)}
    assert {f"s{number}-{row}" for number in range(3) for row in range(2)} <= left
    log.refuse_damage()


@pytest.mark.parametrize("step", range(1, 5))
def test_a_repair_that_is_cut_off_is_done_again(log, quarantine, monkeypatch, step):
    before = rows_of(log)
    pq.write_table(block(1).select([0]), (log.checkpoint / "two.parquet").path)
    for number, name in ((1, "two-0.parquet"), (1, "two-1.parquet")):
        shutil.copy(file_of(log, number), (log.data / name).path)
    with open((log.data / "two-0.parquet").path, "wb") as file:
        file.write(b"half")
    from dfd_core.run import repair as module

    taken = []

    def counted(work):
        def run(*arguments):
            taken.append(work)
            if len(taken) == step:
                raise KeyboardInterrupt
            return work(*arguments)

        return run

    monkeypatch.setattr(module, "_set_aside", counted(module._set_aside))
    monkeypatch.setattr(CommitLog, "append", counted(CommitLog.append))
    with pytest.raises(KeyboardInterrupt):
        repair(log, quarantine)
    monkeypatch.undo()
    repair(log, quarantine)
    log.refuse_damage()
    assert {row["segment_id"]: row for row in rows_of(log)} == {row["segment_id"]: row for row in before}


def test_a_late_commit_is_kept_whole_or_does_not_happen(tmp_path):
    """A worker that outlived its run renames its pending file while the next run settles the log."""
    for round_number in range(30):
        log = CommitLog(
            Address.parse(str(tmp_path / f"{round_number}" / "data")),
            Address.parse(str(tmp_path / f"{round_number}" / "checkpoint")),
            SCHEMA,
        )
        log.append(block(0))
        pending = (log.checkpoint / "late.pending.parquet").path
        pq.write_table(block(1).select([0]), pending)
        pq.write_table(block(1), (log.data / "late-0.parquet").path)

        def commit(pending=pending, log=log):
            try:
                os.rename(pending, (log.checkpoint / "late.parquet").path)
            except FileNotFoundError:
                return False
            return True

        with ThreadPoolExecutor(1) as worker:
            late = worker.submit(commit)
            log.settle()
            assert len(log.committed()) == (4 if late.result() else 2)
        log.refuse_damage()
