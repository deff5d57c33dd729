"""The folder of finished graphs is the user's alone, or there is none."""

import pytest

from dfd.graph_folder import private_folder


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
