"""`--profile`: where one extraction worker's time goes, function by function, as a file for speedscope."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from dfd_core import storage
from dfd_core.sandbox import Sandbox
from jobs.runtime import LOG

_SAMPLES_PER_S = 100
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One recording of the process that decodes, made by the first worker to ask, while it works on one block.

    Attributes:
        address: Where the file goes: https://www.speedscope.app opens it, without sending it anywhere.
        tally: The actor that knows whether it is taken (`Tally.take_profile`).
    """

    address: str
    tally: Any

    @contextmanager
    def of(self, sandbox: Sandbox) -> Iterator[None]:
        """Record the sandbox's process while the block runs, if nobody has recorded another one."""
        if not ray.get(self.tally.take_profile.remote()):
            yield
            return
        with tempfile.TemporaryDirectory(prefix="dfd-profile-") as folder:
            file = Path(folder) / "profile.json"
            try:
                recorder = _start(sandbox.start(), file)
            except OSError as error:
                self.tally.profiled.remote(f"py-spy does not start: {storage.one_line(error)}")
                yield
                return
            try:
                yield
            finally:
                recorder.send_signal(signal.SIGINT)
                self._keep(recorder, file)

    def _keep(self, recorder: subprocess.Popen[str], file: Path) -> None:
        try:
            _, said = recorder.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            recorder.kill()
            _, said = recorder.communicate()
        if file.exists():
            storage.write_bytes(self.address, file.read_bytes())
            self.tally.profiled.remote(None)
        else:
            self.tally.profiled.remote(storage.one_line(said or "py-spy said nothing"))


def _start(pid: int, file: Path) -> subprocess.Popen[str]:
    """Return the recorder when it has begun, or has failed to."""
    # A thread of Ray's blocks SIGINT, a process inherits that, and SIGINT is how a recording ends.
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        recorder = subprocess.Popen(
            [*_command(), "--pid", str(pid), "--output", file],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert recorder.stdout is not None
    recorder.stdout.readline()
    return recorder


def _command() -> list[str]:
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy") or "py-spy"
    return [
        program, "record", "--format", "speedscope", "--rate", str(_SAMPLES_PER_S), "--duration", "unlimited",
    ]  # fmt: skip


def tell_profile(address: str, outcome: str | None) -> None:
    """Log where the profile is, or why there is none."""
    if outcome is None:
        LOG.info("The profile of one worker is in %s", storage.as_text(address))
    else:
        LOG.warning("No profile could be made: %s", outcome)
