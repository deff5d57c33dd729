import json
import os
import subprocess
import sys
import threading
from contextlib import suppress

import fsspec
import pytest

from dfd_core.errors import OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.storage.files import exists, read_bytes, write_bytes


@pytest.fixture
def out(tmp_path):
    found = OutputFolder.at(str(tmp_path / "out"))
    with found.locked():
        RunRecord.new({"source": "videos"}, None).write(found)
    return found


def test_overwriting_keeps_the_folder_locked_at_every_moment(out, tmp_path):
    """Another run tries to take the folder the whole time."""
    taken, ends = [], threading.Event()

    def take():
        while not ends.is_set():
            with suppress(OutputError), OutputFolder.at(out.root.uri).locked():
                taken.append(os.listdir(out.root.path))

    with out.locked() as lock:
        other = threading.Thread(target=take)
        other.start()
        try:
            for number in range(20):
                old_lock = lock
                aside, lock = out.move_aside(old_lock)
                old_lock.release()
                aside.fs.move(aside.path, str(tmp_path / f"old{number}"))
                (tmp_path / "out" / "run.json").write_text("{}")
        finally:
            ends.set()
            other.join()
            lock.release()
    assert taken == []
    assert json.loads((tmp_path / "old0" / "run.json").read_text())["configuration"] == {"source": "videos"}


def test_overwriting_the_working_directory_is_refused(out, tmp_path):
    code = (
        "from dfd_core.run.output_folder import OutputFolder\n"
        "out = OutputFolder.at('.')\n"
        "with out.locked() as lock:\n"
        "    out.move_aside(lock)\n"
    )
    for inside in (".", "plan"):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("'.'", repr("." if inside == "." else ".."))],
            cwd=tmp_path / "out" / inside,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "holds the working directory" in done.stderr.splitlines()[-1]
    assert exists(out.run_json)
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_a_remote_folder_that_is_moved_aside_keeps_its_lock_and_what_came_late(tmp_path):
    out = OutputFolder.at(f"memory://{tmp_path.name}/out")
    write_bytes(out.run_json, b"{}")
    write_bytes(out.root / "a", b"x")
    with out.locked() as lock:
        aside, kept = out.move_aside(lock)
        assert kept is lock
        assert exists(out.root / ".lock")
        assert not exists(out.run_json)
        assert read_bytes(aside / "run.json") == b"{}"
        assert not exists(aside / ".lock")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.mark.parametrize("content", [b"", b'{"configuration": {"sour', b"\xff\0"])
def test_a_torn_record_is_mended_from_its_copy(out, content):
    with open(out.run_json.path, "wb") as file:
        file.write(content)
    with pytest.raises(OutputError, match=r"run.json cannot be read"):
        RunRecord.read(out)
    record = RunRecord.read_or_mend(out)
    assert record.values["configuration"] == {"source": "videos"}
    assert RunRecord.read(out).values == record.values
    (kept,) = (path for path in sorted(os.listdir(out.quarantine.path)))
    assert read_bytes(out.quarantine / kept / "run.json") == content


def test_a_record_whose_copy_is_torn_too_is_an_error(out):
    for address in (out.run_json, out.run_json_copy):
        with open(address.path, "wb"):
            pass
    with pytest.raises(OutputError, match="cannot be read"):
        RunRecord.read_or_mend(out)
    assert exists(out.run_json)


def test_a_torn_first_record_of_a_run_that_has_committed_nothing_is_no_record(out):
    os.remove(out.run_json_copy.path)
    with open(out.run_json.path, "wb"):
        pass
    assert RunRecord.read_or_mend(out) is None
    assert not exists(out.run_json)
