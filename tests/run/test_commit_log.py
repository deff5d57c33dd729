import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import OutputError
from dfd_core.run import commit_log, compaction
from dfd_core.run.commit_log import CommitLog
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table


@pytest.fixture
def log(tmp_path):
    """A log of three committed blocks of two rows."""
    checkpoint, data = tmp_path / "checkpoint", tmp_path / "data"
    for block in range(3):
        ids = pa.table({"segment_id": [f"s{block}-{row}" for row in range(2)]})
        write_table(Address.parse(str(checkpoint / f"run_{block}.parquet")), ids)
        write_table(
            Address.parse(str(data / f"run_{block}-0.parquet")), ids.append_column("value", pa.array([1, 2]))
        )
    return checkpoint, data


SCHEMA = pa.schema([("segment_id", pa.string()), ("value", pa.int64())])


def log_of(checkpoint, data):
    return CommitLog(Address.parse(str(data)), Address.parse(str(checkpoint)), SCHEMA)


def refuse(log):
    log_of(*log).refuse_damage()


def test_a_whole_log_is_believed(log):
    refuse(log)
    assert len(log_of(*log).committed()) == 6


def test_a_log_that_never_was_is_empty_and_whole(tmp_path):
    assert len(log_of(tmp_path / "no", tmp_path / "neither").committed()) == 0
    log_of(tmp_path / "no", tmp_path / "neither").refuse_damage()


def test_a_deleted_data_file_is_damage(log):
    (log[1] / "run_1-0.parquet").unlink()
    with pytest.raises(OutputError, match="damaged: 2 of 6 committed rows are gone"):
        refuse(log)


@pytest.mark.parametrize("content", [b"", b"PAR1 not quite PAR1"])
def test_a_data_file_that_cannot_be_read_is_damage(log, content):
    (log[1] / "run_1-0.parquet").write_bytes(content)
    with pytest.raises(OutputError, match="damaged"):
        refuse(log)


def test_an_interrupted_write_is_no_damage(log):
    write_table(Address.parse(str(log[0] / "run_3.pending.parquet")), pa.table({"segment_id": ["s3-0"]}))
    (log[1] / "run_3-0.parquet").write_bytes(b"PAR1 half")
    refuse(log)
    assert len(log_of(*log).committed()) == 6


def test_what_ended_within_a_commit_is_cleared_away(log):
    ids = pa.table({"segment_id": ["s1-0", "s1-1"]})
    write_table(
        Address.parse(str(log[0] / "run_1.pending.parquet")), ids
    )  # committed, and not yet renamed away
    write_table(Address.parse(str(log[0] / "run_3.pending.parquet")), ids)  # never committed
    write_table(Address.parse(str(log[1] / "run_3-0.parquet")), ids)
    log_of(*log).settle()
    assert sorted(path.name for path in log[0].iterdir()) == [f"run_{n}.parquet" for n in range(3)]
    assert sorted(path.name for path in log[1].iterdir()) == [f"run_{n}-0.parquet" for n in range(3)]
    refuse(log)


def rows_of(log):
    table = log_of(*log).rows().to_table().sort_by("segment_id")
    return table.to_pylist()


def compact(log, most_files):
    return compaction.compact(log_of(*log), most_files=most_files)


def test_many_files_become_few_with_the_same_rows(log):
    ids = pa.table({"segment_id": ["stray"], "value": [9]})
    write_table(
        Address.parse(str(log[1] / "run_7-0.parquet")), ids
    )  # never committed: stays what it is, and out
    before = rows_of(log)
    assert len(before) == 6
    assert compact(log, 3) == 0
    assert compact(log, 2) == 3
    assert rows_of(log) == before
    assert len(list(log[0].iterdir())) == 1
    assert len(list(log[1].iterdir())) == 2
    refuse(log)
    write_table(Address.parse(str(log[0] / "run_8.parquet")), ids.select([0]))
    write_table(Address.parse(str(log[1] / "run_8-0.parquet")), ids)
    assert compact(log, 1) == 2
    assert len(rows_of(log)) == 7
    refuse(log)


def test_many_rows_are_merged_into_several_files_of_several_row_groups(log, monkeypatch):
    monkeypatch.setattr(commit_log, "_FILES_AT_ONCE", 2)
    monkeypatch.setattr(compaction, "_GROUP_BYTES", 1)
    monkeypatch.setattr(compaction, "_FILE_BYTES", 60)
    before = rows_of(log)
    assert compact(log, 2) == 3
    files = [pq.ParquetFile(path) for path in sorted(log[1].iterdir())]
    assert [file.num_row_groups for file in files] == [2, 1]
    assert rows_of(log) == before
    refuse(log)


@pytest.mark.parametrize("step", range(1, 10))
def test_a_merge_that_is_cut_off_at_any_step_loses_nothing(log, monkeypatch, step):
    before = rows_of(log)
    taken = []

    def counted(work):
        def run(*arguments, **options):
            taken.append(work)
            if len(taken) == step:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return run

    monkeypatch.setattr(pq.ParquetWriter, "write_table", counted(pq.ParquetWriter.write_table))
    monkeypatch.setattr(compaction, "write_table", counted(compaction.write_table))
    monkeypatch.setattr(commit_log, "_delete", counted(commit_log._delete))
    with pytest.raises(KeyboardInterrupt):
        compact(log, 2)
    monkeypatch.undo()
    unique = {row["segment_id"]: row for row in rows_of(log)}
    assert sorted(unique) == [row["segment_id"] for row in before]
    refuse(log)
    log_of(*log).settle()
    compact(log, 0)
    assert {row["segment_id"]: row for row in rows_of(log)} == unique
    refuse(log)
