"""A job's command, run as a process of its own or in this one."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

from dfd.cli import run_command

ROOT = Path(__file__).resolve().parent.parent
_NAMES = {"extract_faces": "faces", "make_manifest": "manifest", "make_demo_archive": "demo-archive"}
"""The commands of the scripts that are called otherwise."""


def run_job(script: str, *arguments: object, timeout_s: float = 300) -> CompletedProcess[str]:
    """Return what `python jobs/SCRIPT.py ARGUMENTS` does, on a Ray of its own."""
    command = [sys.executable, f"jobs/{script}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def run_job_here(script: str, *arguments: object) -> CompletedProcess[str]:
    """Return the same of the command called in this process, on the Ray that is connected: fifteen seconds less."""
    output, log = io.StringIO(), io.StringIO()
    status = None
    with redirect_stdout(output), redirect_stderr(log):
        try:
            run_command(
                _NAMES.get(script, script), f"jobs/{script}.py", [str(argument) for argument in arguments]
            )
        except SystemExit as end:
            status = end.code
    assert isinstance(status, int)
    return CompletedProcess([script, *map(str, arguments)], status, output.getvalue(), log.getvalue())
