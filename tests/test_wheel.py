"""The wheel: what it installs, and that a new environment scores a video with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.clips import astronaut_frames, write_clip

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_FOR_READING = {
    "av",
    "dlib-bin",
    "keras",
    "pebble",
    "ray[data,default,train]",
    "tensorboardx",
    "tensorflow",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files that git knows, built by the installed setuptools."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split("\n")  # fmt: skip
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    if not files:
        pytest.skip("not a git checkout")
    for file in files:
        copy = tree / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(out)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, check=True)
    (built,) = out.glob("*.whl")
    return built


def test_it_installs_two_packages_and_nothing_else_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = PROJECT["project"]["version"]
    assert {name.partition("/")[0] for name in names} == {"dfd", "dfd_core", f"dfd-{version}.dist-info"}


def test_it_holds_every_module_and_what_the_modules_read(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("dfd", "dfd_core")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names


def packages(requirements: list[str]) -> dict[str, str]:
    """Return the requirements by the package's name."""
    return {line.partition(">=")[0]: line for line in requirements}


def test_the_packages_of_a_reader_are_the_projects_without_the_heavy_ones() -> None:
    everything, reading = (
        packages(PROJECT["project"]["dependencies"]),
        packages(PROJECT["dependency-groups"]["read"]),
    )
    assert everything.keys() - NOT_FOR_READING == reading.keys()
    assert all(everything[name] == line for name, line in reading.items())


@pytest.mark.parametrize("name", ["requirements-gpu.lock", "requirements-read.lock"])
def test_the_smaller_locks_hold_the_versions_of_the_large_one(name: str) -> None:
    def pinned(file: str) -> set[str]:
        lines = (ROOT / file).read_text().splitlines()
        return {
            line.removesuffix("\\").split(";")[0].strip()
            for line in lines
            if "==" in line and line[0].isalnum()
        }

    only_gpu = {line for line in pinned(name) if line.startswith("nvidia-")}
    assert pinned(name) - only_gpu <= pinned("requirements.lock")
    assert bool(only_gpu) == ("gpu" in name)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock", "requirements-read.lock"])
def test_every_package_of_a_lock_has_a_hash_and_no_index_is_named(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    pins = [position for position, line in enumerate(lines) if "==" in line and line[0].isalnum()]
    assert pins
    assert all(lines[position + 1].startswith("    --hash=sha256:") for position in pins)
    assert not any("://" in line or "-index" in line for line in lines)


def installed(folder: Path, *arguments: object) -> Path:
    """Return the `dfd` of a new environment in `folder` after `pip install ARGUMENTS`, one call for each list."""
    venv.create(folder, with_pip=True)
    for each in arguments:
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *each]  # type: ignore[misc]
        subprocess.run(pip, check=True)
    return folder / "bin" / "dfd"


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_a_new_environment_scores_a_video(wheel: Path, tmp_path: Path) -> None:
    dfd = installed(tmp_path / "env", [wheel])
    clip = write_clip(tmp_path / "clip.mp4", astronaut_frames(50))
    assert run(dfd, "score", clip, cwd=tmp_path).splitlines()[1].split()[:2] == ["clip.mp4", "scored"]


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_a_readers_environment_reads_results(wheel: Path, tmp_path: Path) -> None:
    from tests.scored_folder import many_videos, write_scores

    dfd = installed(
        tmp_path / "env", ["--requirement", ROOT / "requirements-read.lock"], ["--no-deps", wheel]
    )
    scores = write_scores(tmp_path / "scores", many_videos())
    run(dfd, "evaluate", scores, "--out", tmp_path / "report", cwd=tmp_path)
    assert (tmp_path / "report" / "report.html").exists()
