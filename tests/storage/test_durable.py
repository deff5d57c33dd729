"""What is synced, and in which order: a power failure keeps what was synced before it and may lose the rest."""

import copy
import os
import pickle

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pytest

from dfd_core.storage.address import Address
from dfd_core.storage.durable import DURABLE
from dfd_core.storage.files import write_bytes


@pytest.fixture
def synced(monkeypatch):
    """Names of what was synced, in order."""
    names, real = [], os.fsync

    def fsync(handle):
        number = handle if isinstance(handle, int) else handle.fileno()
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_a_file_is_synced_before_its_name_and_its_name_before_it_counts(tmp_path, synced):
    write_bytes(Address.parse(str(tmp_path / "run.json")), b"{}")
    assert synced == [f"run.json.{os.getpid()}.part", tmp_path.name]


def test_what_is_closed_and_what_is_renamed_is_synced_with_its_folder(tmp_path, synced):
    with DURABLE.open_output_stream(str(tmp_path / "a.pending")) as file:
        file.write(b"ids")
    assert synced == ["a.pending", tmp_path.name]
    DURABLE.move(str(tmp_path / "a.pending"), str(tmp_path / "a"))
    assert synced[2:] == ["a.pending", tmp_path.name]
    assert (tmp_path / "a").read_bytes() == b"ids"


def test_a_dataset_written_through_it_is_the_same_and_synced(tmp_path, synced):
    table = pa.table({"a": list(range(1000))})
    ds.write_dataset(table, str(tmp_path / "d"), format="parquet", filesystem=DURABLE)
    assert ds.dataset(str(tmp_path / "d"), filesystem=DURABLE).to_table() == table
    assert synced == [tmp_path.name, "part-0.parquet", "d"]


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda fs: pickle.loads(pickle.dumps(fs))])
def test_it_travels_to_workers(tmp_path, travel):
    there = travel(DURABLE)
    assert there == DURABLE
    with there.open_output_stream(str(tmp_path / "a")) as file:
        file.write(b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_it_answers_as_the_local_file_system_does(tmp_path):
    local = pafs.LocalFileSystem()
    (tmp_path / "a").write_bytes(b"x")
    for path in ("a", "b", "."):
        found, expected = (fs.get_file_info(str(tmp_path / path)) for fs in (DURABLE, local))
        assert (found.type, found.size) == (expected.type, expected.size)
    selector = pafs.FileSelector(str(tmp_path))
    assert [info.path for info in DURABLE.get_file_info(selector)] == [f"{tmp_path}/a"]
    DURABLE.copy_file(str(tmp_path / "a"), str(tmp_path / "c"))
    DURABLE.create_dir(str(tmp_path / "d" / "e"), recursive=True)
    DURABLE.delete_dir_contents(str(tmp_path / "d"))
    DURABLE.delete_dir(str(tmp_path / "d"))
    DURABLE.delete_file(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == ["c"]
