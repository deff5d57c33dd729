"""`--profile`: where one extraction worker's time goes, function by function, as a file for speedscope."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from dfd.cluster.runtime import LOG
from dfd_core.errors import RequestError
from dfd_core.stages.sandbox import Sandbox
from dfd_core.stages.sandbox.parent import ChildLostError
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, one_line
from dfd_core.storage.uri import is_remote, local_path, local_uri

_SAMPLES_PER_S = 100
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One recording of the process that decodes, made by the first worker to ask, while it works on one block.

    A recording that cannot be started or kept ends no run: it is told.

    Attributes:
        address: Where the file goes: https://www.speedscope.app opens it, without sending it anywhere.
        tally: The actor that knows whether it is taken (`Tally.take_profile`).
    """

    address: str
    tally: Any

    def __post_init__(self) -> None:
        if not is_remote(self.address):  # a worker runs in another folder
            object.__setattr__(self, "address", local_uri(local_path(self.address)))

    @contextmanager
    def of(self, sandbox: Sandbox) -> Iterator[None]:
        """Record the sandbox's process while the block runs, if nobody has recorded another one."""
        if not ray.get(self.tally.take_profile.remote()):
            yield
            return
        with ExitStack() as stack:
            try:
                folder = tempfile.mkdtemp(prefix="dfd-profile-")
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                file = Path(folder) / "profile.json"
                recorder = _start(sandbox.start(), file)
            except (OSError, ChildLostError) as error:
                self.tally.profiled.remote(f"py-spy does not start: {one_line(error)}")
                yield
                return
            try:
                yield
            finally:
                recorder.send_signal(signal.SIGINT)
                self.tally.profiled.remote(self._keep(recorder, file))

    def _keep(self, recorder: subprocess.Popen[bytes], file: Path) -> str | None:
        """Write the profile to its address when the recorder has ended, and return None, or why there is none."""
        try:
            _, said = recorder.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            recorder.kill()
            _, said = recorder.communicate()
        if not file.exists():
            return one_line(said.decode(errors="replace") or "py-spy said nothing")
        try:
            write_bytes(Address.parse(self.address), file.read_bytes())
        except (OSError, RequestError) as error:
            return f"{self.address} cannot be written: {one_line(error)}"
        return None


def _start(pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Return the recorder when it has begun, or has failed to."""
    # A thread of Ray's blocks SIGINT, a process inherits that, and SIGINT is how a recording ends.
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        recorder = subprocess.Popen(
            [*_command(), "--pid", str(pid), "--output", file],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        LOG.info("The profile of one worker is in %s", as_text(address))
    else:
        LOG.warning("No profile could be made: %s", outcome)
