"""One program, `dfd`: its commands are documented, have examples, complete in a shell and load only what they need."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dfd.cli import COMMANDS, load_command, main
from tests.scored_folder import many_videos, write_scores

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"ray", "tensorflow", "keras", "dlib", "av"}
READING = ("evaluate", "compare", "aggregate", "duplicates", "export", "review", "report")
"""The commands that only read results."""


def examples_of(name: str) -> list[str]:
    shown = CliRunner().invoke(main, [name, "--help"], prog_name="dfd").output
    return shown.split("Examples:\n")[1].replace("\\\n", " ").splitlines()


def imported_by(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Return what `dfd ARGUMENTS` prints, and which of HEAVY it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dfd", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, HEAVY & set(re.findall(r"\|\s+(\w+)$", done.stderr, flags=re.M))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"| `dfd {name}` |" in (ROOT / "docs" / "commands.md").read_text()
    script = {"manifest": "make_manifest", "faces": "extract_faces", "demo-archive": "make_demo_archive"}.get(
        name, name
    )
    if (ROOT / "jobs" / f"{script}.py").exists():
        assert f"`jobs/{script}.py`" in (ROOT / "docs" / "commands.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_says_what_it_is_for(name: str) -> None:
    command = load_command(name)
    assert command.help
    unexplained = [o.name for o in command.params if isinstance(o, click.Option) and not o.help]
    assert unexplained == []
    assert "--json" in {flag for option in command.params for flag in option.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_in_examples_that_the_command_takes(name: str) -> None:
    examples = examples_of(name)
    assert any(line.startswith(f"  dfd {name} ") for line in examples)
    for line in examples:
        words = shlex.split(line.partition(" -- ")[2] or line)
        assert words[:2] == ["dfd", name] or words[0] == "python"
        load_command(name).make_context(name, words[2:])


def test_the_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(main, ["--version"], prog_name="dfd").output == f"dfd {version}\n"


def test_help_and_completion_load_nothing_heavy() -> None:
    assert imported_by("--help")[1] == set()
    shown, heavy = imported_by(_DFD_COMPLETE="bash_complete", COMP_WORDS="dfd ev", COMP_CWORD="1")
    assert shown.splitlines() == ["plain,evaluate"]
    assert heavy == set()


def test_the_options_of_a_command_complete() -> None:
    shown, heavy = imported_by(_DFD_COMPLETE="bash_complete", COMP_WORDS="dfd score --prec", COMP_CWORD="2")
    assert shown.splitlines() == ["plain,--precision"]
    assert heavy == set()


@pytest.mark.parametrize("name", READING)
def test_a_command_that_only_reads_results_needs_no_heavy_library(name: str) -> None:
    assert imported_by(name, "--help")[1] == set()


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from dfd.cli import run
run(sys.argv[1:])
"""


def test_results_are_judged_where_the_heavy_libraries_are_not_installed(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", many_videos())
    arguments = ["evaluate", str(scores), "--out", str(tmp_path / "report"), "--resamples", "20"]
    command = [sys.executable, "-c", WITHOUT.format(heavy=HEAVY), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").exists()


def test_json_is_one_object_on_standard_output(tmp_path: Path) -> None:
    import json

    out = tmp_path / "demo"
    done = CliRunner().invoke(
        main, ["demo-archive", "--out", str(out), "--train", "1", "--held-out", "0", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"clips": {f"{out / 'train'}": 2}}
