"""Let a video that has taken over its decoding process try everything, and see that each try ends as that video's row.

    python benchmarks/drill_attack.py

Prints one table: what was tried, and how it ended. Exit status 1 if anything was got, sent, made or lost.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.attacks import ATTACKS, attacking
from benchmarks.forgeries import FORGERIES
from benchmarks.prey import Prey
from dfd_core.config import ExtractConfig, Limits
from dfd_core.schemas import face_crops, to_table
from dfd_core.stages.plan import WHOLE_VIDEO
from dfd_core.stages.sandbox import Sandbox
from dfd_core.video.trial import trial_clip

CONFIG = ExtractConfig(limits=Limits(timeout_floor_s=20.0, timeout_factor=1.0, memory_mb=1000))
SECRET = "correct-horse-battery-staple"
_MOST_GROWTH_MB = 400
_FORGERIES = {forgery.__name__ for forgery in FORGERIES}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack ended.

    Attributes:
        attack: Its name.
        row: The video's row.
        faults: What it got; empty if it failed.
    """

    attack: str
    row: dict[str, Any]
    faults: tuple[str, ...]


@contextmanager
def _prey() -> Iterator[tuple[Prey, socket.socket]]:
    with tempfile.TemporaryDirectory(prefix="dfd-attack-") as folder:
        video, secret = Path(folder) / "video.mp4", Path(folder) / "secret.txt"
        video.write_bytes(trial_clip())
        secret.write_text(SECRET)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.05)
            port, marker = server.getsockname()[1], str(Path(folder) / "marker")
            yield Prey(port, str(secret), SECRET, marker, os.getpid(), str(video)), server


def attack_all(names: list[str], *, note: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
    """Return how each attack ended; the environment holds a secret meanwhile."""
    os.environ["DFD_DRILL_SECRET"] = SECRET
    outcomes = []
    try:
        with _prey() as (prey, server):
            sandbox = Sandbox(CONFIG, open_video=partial(attacking, prey=prey))
            for name in names:
                outcomes.append(_attack(name, sandbox, prey, server))
                note(outcomes[-1])
            sandbox.close()
    finally:
        del os.environ["DFD_DRILL_SECRET"]
    return outcomes


def _attack(name: str, sandbox: Sandbox, prey: Prey, server: socket.socket) -> Outcome:
    before = Path(prey.video_path).read_bytes()
    peak_mb = _peak_mb()
    row = _extract(sandbox, f"attack:{name}")
    message = row["error_message"] or ""
    faults = [] if row["error_kind"] else ["no error"]
    if "GOT" in message or (name not in _FORGERIES and not message.startswith("refused")):
        faults.append(message)
    if (row["segment_id"], row["faces"]) != (name, []):
        faults.append("the row of another video")
    if _peak_mb() - peak_mb > _MOST_GROWTH_MB:
        faults.append(f"the parent grew by {_peak_mb() - peak_mb:.0f} MB")
    if Path(prey.marker_path).exists() or not Path(prey.secret_path).exists():
        faults.append("a file was made or deleted")
    if Path(prey.video_path).read_bytes() != before:
        faults.append("the video was changed")
    try:
        server.accept()[0].close()
        faults.append("a connection arrived")
    except TimeoutError:
        pass
    if _extract(sandbox, prey.video_path)["error_kind"] is not None:
        faults.append("the next video suffered")
    return Outcome(name, row, tuple(faults))


def _extract(sandbox: Sandbox, uri: str) -> dict[str, Any]:
    name = uri.partition(":")[2] or uri
    segment = {"segment_id": name, "plan_key": "k", "uri": uri, "fps": 10.0, "duration_s": 0.3}
    row = sandbox.extract(segment | WHOLE_VIDEO.as_row())
    to_table([row], face_crops(CONFIG.crop_px))
    return row


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@click.command()
def main() -> None:
    """Try every attack."""

    def note(outcome: Outcome) -> None:
        row = outcome.row
        ending = f"{row['error_kind']}: {row['error_message']}"
        print(f"{outcome.attack:<36} {'; '.join(outcome.faults) or 'failed':<10} {ending[:90]}", flush=True)

    sandbox = Sandbox(CONFIG)
    print(f"sandbox: {sandbox.confinement()}\n")
    sandbox.close()
    outcomes = attack_all(list(ATTACKS), note=note)
    num_faults = sum(bool(outcome.faults) for outcome in outcomes)
    print(f"\n{len(outcomes)} attacks, {num_faults} got something")
    sys.exit(1 if num_faults else 0)


if __name__ == "__main__":
    main()
