import pyarrow as pa
import pytest

from dfd_core import commit_log
from dfd_core.errors import OutputError
from dfd_core.output import write_table


@pytest.fixture
def log(tmp_path):
    """A log of three committed blocks of two rows."""
    checkpoint, data = tmp_path / "checkpoint", tmp_path / "data"
    for block in range(3):
        ids = pa.table({"segment_id": [f"s{block}-{row}" for row in range(2)]})
        write_table(str(checkpoint / f"run_{block}.parquet"), ids)
        write_table(str(data / f"run_{block}-0.parquet"), ids.append_column("value", pa.array([1, 2])))
    return checkpoint, data


def refuse(log):
    commit_log.refuse_damage(str(log[0]), str(log[1]), "segment_id")


def test_a_whole_log_is_believed(log):
    refuse(log)
    assert len(commit_log.committed(str(log[0]), "segment_id")) == 6


def test_a_log_that_never_was_is_empty_and_whole(tmp_path):
    assert len(commit_log.committed(str(tmp_path / "no"), "segment_id")) == 0
    commit_log.refuse_damage(str(tmp_path / "no"), str(tmp_path / "neither"), "segment_id")


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
    write_table(str(log[0] / "run_3.pending.parquet"), pa.table({"segment_id": ["s3-0"]}))
    (log[1] / "run_3-0.parquet").write_bytes(b"PAR1 half")
    refuse(log)
    assert len(commit_log.committed(str(log[0]), "segment_id")) == 6


def test_a_pending_file_whose_commit_is_complete_is_removed_and_no_other(log):
    ids = pa.table({"segment_id": ["s1-0", "s1-1"]})
    write_table(str(log[0] / "run_1.pending.parquet"), ids)
    write_table(str(log[0] / "run_3.pending.parquet"), ids)
    commit_log.settle(str(log[0]))
    assert sorted(path.name for path in log[0].glob("*.pending.parquet")) == ["run_3.pending.parquet"]
    refuse(log)
