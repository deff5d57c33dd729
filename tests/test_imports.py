"""CPU workers start fast and stay small because of what they do not import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_module_keeps_the_import_contract() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint_imports], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("dfd_core.stages.extract", {"tensorflow", "keras", "ray", "click"}),
        ("dfd_core.stages.scoring", {"av", "dlib", "tensorflow", "keras", "ray", "click"}),
    ],
)
def test_importing_a_stage_leaves_the_other_stages_libraries_alone(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*({forbidden!r} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_the_library_reads_no_environment_variables() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "dfd_core").rglob("*.py"))
        if re.search(r"\b(environ|getenv)\b", re.sub(r"(?s)\"\"\".*?\"\"\"|#[^\n]*", "", path.read_text()))
    ]
    assert found == ["dfd_core/stages/sandbox/parent.py"]  # which hands some of them on to its child
