"""Progress of a training: a bar on a terminal, a line every few seconds in a log, and a line for each epoch."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LOG = logging.getLogger("dfd")
_EVERY_S = 5.0
_BAR_EVERY_S = 0.5
_LAST_PATIENCE_S = 60.0


@ray.remote(num_cpus=0)
class TrainTally:
    """Collects the messages of workers on any node."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {"workers": {}, "step": None, "epochs": [], "refused": None}

    def ready(self, rank: int, pid: int, precision: str, device: str, backend: str) -> None:
        """Note a worker that is ready to train."""
        self._state["workers"][rank] = {
            "pid": pid,
            "precision": precision,
            "device": device,
            "backend": backend,
        }

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Note a step of the first worker; epochs count from 0."""
        self._state["step"] = (epoch, step, steps, loss)

    def epoch(self, number: int, logs: dict[str, float]) -> None:
        """Note a finished epoch; they count from 1."""
        self._state["epochs"].append((number, logs))

    def refuse(self, kind: str, message: str) -> None:
        """Note why the request cannot be carried out."""
        self._state["refused"] = (kind, message)

    def read(self) -> dict[str, Any]:
        """Return all messages."""
        return self._state


class TrainProgress:
    """Shows the tally while its block runs.

    Attributes:
        tally: For the workers.
        workers: Process, precision, device and backend of each worker, by rank.
        refused: Kind and message of a `RequestError` of the workers; None without one.
    """

    def __init__(self, *, epochs: int, batch_size: int) -> None:
        self.tally: Any = TrainTally.remote()
        self.workers: dict[int, dict[str, Any]] = {}
        self.refused: tuple[str, str] | None = None
        self._epochs = epochs
        self._batch_size = batch_size
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._told_epochs = 0
        self._told_step: Any = None
        self._since: tuple[float, int, int] | None = (
            None  # clock, epoch and step that the speed is measured from
        )
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> TrainProgress:
        if sys.stderr.isatty():
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        if sys.stderr.isatty():
            self._bar.stop()
        self._tell(timeout_s=_LAST_PATIENCE_S)

    def _run(self) -> None:
        while not self._stop.wait(_BAR_EVERY_S if sys.stderr.isatty() else _EVERY_S):
            self._tell()

    def _tell(self, timeout_s: float = _EVERY_S) -> None:
        try:
            state: dict[str, Any] = ray.get(self.tally.read.remote(), timeout=timeout_s)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return
        self.workers, self.refused = state["workers"], state["refused"]
        for number, logs in state["epochs"][self._told_epochs :]:
            LOG.info("epoch %d of at most %d: %s", number, self._epochs, _figures(logs))
        self._told_epochs = len(state["epochs"])
        if state["step"] is not None and state["step"] != self._told_step:
            self._told_step = state["step"]
            self._tell_step(*state["step"])

    def _tell_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if self._since is None or self._since[1] != epoch or self._since[2] > step:
            self._since = (now, epoch, step)
        since_s, done = now - self._since[0], step - self._since[2]
        speed = f", {done * self._batch_size / since_s:,.0f} faces/s" if done else ""
        if not sys.stderr.isatty():
            LOG.info("epoch %d, step %d of %d, loss %.4f%s", epoch + 1, step, steps, loss, speed)
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=steps, loss="")
        self._bar.update(
            self._task,
            description=f"epoch {epoch + 1}",
            completed=step,
            total=steps,
            loss=f"loss {loss:.4f}{speed}",
        )


def _figures(logs: dict[str, float]) -> str:
    """Return an epoch's figures as text.

    >>> _figures({"loss": 0.5, "learning_rate": 1e-05})
    'loss 0.5000, learning_rate 1e-05'
    """
    return ", ".join(
        f"{name} {value:.3g}" if name == "learning_rate" else f"{name} {value:.4f}"
        for name, value in logs.items()
    )
