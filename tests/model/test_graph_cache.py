"""Where graphs are kept, and who builds one."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dfd_core.model.graph_cache import KeptGraph, private_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("DFD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_folder_is_the_users_alone(home):
    assert private_folder() == home / ".cache" / "dfd" / "graphs"
    assert private_folder().stat().st_mode & 0o077 == 0


def test_the_folder_can_be_named_and_turned_off(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "x"))
    assert private_folder() == home / "x" / "dfd" / "graphs"
    monkeypatch.setenv("DFD_CACHE", str(home / "mine"))
    assert private_folder() == home / "mine"
    monkeypatch.setenv("DFD_CACHE", "")
    assert private_folder() is None


def test_a_folder_that_others_can_write_to_is_not_used(home, monkeypatch):
    monkeypatch.setenv("DFD_CACHE", str(home / "shared"))
    private_folder().chmod(0o777)
    assert private_folder() is None


@pytest.mark.parametrize("home_is", ["a file", "nowhere"])
def test_without_a_place_nothing_is_kept(home, monkeypatch, home_is):
    (home / "file").write_text("")
    monkeypatch.setenv("HOME", str(home / "file") if home_is == "a file" else "/proc/none")
    assert private_folder() is None


def test_one_builds_and_the_others_wait(tmp_path):
    order = []

    def want(name):
        with KeptGraph(tmp_path, "k").locked():
            order.append(f"{name} in")
            time.sleep(0.2)
            order.append(f"{name} out")

    threads = [threading.Thread(target=want, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event[2:] for event in order] == ["in", "out", "in", "out"]


def test_a_predictor_of_a_kept_graph_loads_no_keras(tmp_path):
    code = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
from dfd_core.model.source import resolve_model
from dfd_core.model.predictor import load_predictor
load_predictor(resolve_model("untrained:mobilenet_v3_small"), cache_dir=sys.argv[1])
print("keras" in sys.modules)
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [run.stdout.split()[-1] for run in runs] == ["True", "False"]
