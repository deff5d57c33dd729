import json
import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import OutputError
from dfd_core.storage import swap
from dfd_core.storage.address import Address
from dfd_core.storage.files import read_bytes
from dfd_core.storage.tables import dataset, parquet_files, replace_table

SCHEMA = pa.schema([("value", pa.int64())])


def table(*values):
    return pa.table({"value": list(values)}, SCHEMA)


def values(folder):
    return sorted(dataset(folder, SCHEMA).to_table().column("value").to_pylist())


def interrupted(*tables):
    yield from tables
    raise KeyboardInterrupt


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    if request.param == "local":
        yield Address.parse(str(tmp_path / "out" / "videos"))
    else:
        yield Address.parse(f"memory://{tmp_path.name}/videos")
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_table_replaces_the_old_one_whole(folder):
    assert replace_table(folder, [table(1, 2), table(3), table(4)], SCHEMA, rows_per_file=2) == 4
    assert (values(folder), len(parquet_files(folder))) == ([1, 2, 3, 4], 2)
    assert replace_table(folder, [table(5)], SCHEMA) == 1
    assert (values(folder), len(parquet_files(folder))) == ([5], 1)
    assert replace_table(folder, [], SCHEMA) == 0
    assert (values(folder), len(parquet_files(folder))) == ([], 1)


def test_an_interrupted_write_leaves_the_old_table_and_nothing_else(folder):
    replace_table(folder, [table(1, 2), table(3, 4)], SCHEMA, rows_per_file=2)
    listed = sorted(info.path for info in folder.fs.get_file_info(files_below(folder)))
    for written in ([], [table(10)], [table(10), table(11), table(12)]):
        with pytest.raises(KeyboardInterrupt):
            replace_table(folder, interrupted(*written), SCHEMA, rows_per_file=1)
        assert values(folder) == [1, 2, 3, 4]
    assert sorted(info.path for info in folder.fs.get_file_info(files_below(folder))) == listed


def files_below(folder):
    import pyarrow.fs as pafs

    return pafs.FileSelector(folder.parent, recursive=True)


def test_files_that_somebody_else_put_there_stay(folder):
    replace_table(folder, [table(1)], SCHEMA)
    with folder.fs.open_output_stream((folder / "notes.txt").path) as file:
        file.write(b"mine")
    replace_table(folder, [table(2)], SCHEMA)
    with folder.fs.open_input_stream((folder / "notes.txt").path) as file:
        assert file.read() == b"mine"
    assert values(folder) == [2]


def test_parts_that_a_killed_process_left_in_a_store_do_not_count(tmp_path):
    folder = Address.parse(f"memory://{tmp_path.name}/videos")
    replace_table(folder, [table(1)], SCHEMA)
    pq.write_table(table(9), (folder / "part-0123456789ab-00000.parquet").path, filesystem=folder.fs)
    assert values(folder) == [1]
    replace_table(folder, [table(2)], SCHEMA)
    assert values(folder) == [2]
    assert len(dataset(folder, SCHEMA).files) == 1
    listed = json.loads(read_bytes(folder / "_parts.json"))["parts"]
    assert [os.path.basename(path) for path in parquet_files(folder)] == listed
    names = {os.path.basename(path) for path in fsspec.filesystem("memory").ls(folder.path, detail=False)}
    assert names == {"_parts.json", os.path.basename(parquet_files(folder)[0])}


def test_a_store_that_fails_is_said_and_the_old_table_stays(tmp_path, monkeypatch):
    folder = Address.parse(f"memory://{tmp_path.name}/videos")
    replace_table(folder, [table(1)], SCHEMA)

    def failing():
        yield table(2)
        raise OSError("the disk is full")

    with pytest.raises(OutputError, match="cannot be written: the disk is full"):
        replace_table(folder, failing(), SCHEMA)
    assert values(folder) == [1]


@pytest.mark.parametrize("has_exchange", [True, False])
@pytest.mark.parametrize("step", range(1, 5))
def test_a_kill_at_any_rename_leaves_the_old_table_or_the_new_one(tmp_path, monkeypatch, has_exchange, step):
    folder = Address.parse(str(tmp_path / "videos"))
    replace_table(folder, [table(1)], SCHEMA)
    renames = []

    class Killed(BaseException):
        pass

    def counted(rename):
        def run(*arguments):
            renames.append(arguments)
            if len(renames) == step:
                raise Killed
            return rename(*arguments)

        return run

    monkeypatch.setattr(os, "rename", counted(os.rename))
    monkeypatch.setattr(swap, "exchange", counted(swap.exchange) if has_exchange else lambda *_: False)
    monkeypatch.setattr(swap.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
    try:
        replace_table(folder, [table(2)], SCHEMA)
        expected = [2]
    except Killed:
        expected = None
    monkeypatch.undo()
    assert values(folder) in ([expected] if expected else [[1], [2]])
    replace_table(folder, [table(3)], SCHEMA)
    assert values(folder) == [3]
    assert os.listdir(tmp_path) == ["videos"]


def test_a_folder_that_only_looks_like_a_leftover_stays(tmp_path):
    for name in ("videos.new", "videos.old", ".videos.new-1", "videos.new-" + "0" * 32):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    replace_table(Address.parse(str(tmp_path / "videos")), [table(1)], SCHEMA)
    replace_table(Address.parse(str(tmp_path / "videos")), [table(2)], SCHEMA)
    assert len(os.listdir(tmp_path)) == 5


def test_a_folder_that_another_process_is_writing_is_not_cleared_away(tmp_path):
    with swap.replacing_folder(str(tmp_path / "videos")) as new:
        (tmp_path / new / "a").touch()
        swap.clear_left(str(tmp_path / "videos"))
        assert os.listdir(new) == ["a"]
    assert os.listdir(tmp_path / "videos") == ["a"]
