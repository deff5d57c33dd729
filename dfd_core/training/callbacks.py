"""Keras' own callbacks, driven by the trainer: early stopping, the learning rate, the history, TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from dfd_core.training.events import EventLog
from dfd_core.training.settings import HISTORY_FILENAME, LOGS_FOLDER, TrainingSettings

_FIELDS = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter", "best_weights")


class Callbacks:
    """The callbacks of one training."""

    def __init__(self, settings: TrainingSettings, model: Any, folder: Path) -> None:
        """Make them for a compiled model; history and logs go into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._stateful: dict[str, Any] = {
            "stopping": keras.callbacks.EarlyStopping(
                monitor="val_loss", mode="min", patience=settings.patience, restore_best_weights=True
            )
        }
        if settings.lr_schedule == "plateau":
            self._stateful["schedule"] = keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                mode="min",
                factor=settings.lr_factor,
                patience=settings.lr_patience,
                min_lr=settings.min_learning_rate,
                min_delta=0.0,
            )
        logs = [
            keras.callbacks.CSVLogger(str(folder / HISTORY_FILENAME), append=True),
            EventLog(folder / LOGS_FOLDER),
        ]
        self._all = keras.callbacks.CallbackList([*self._stateful.values(), *logs], model=model)

    def begin(self, *, resumed: bool) -> None:
        """Start; a resumed training keeps the state that was set, which Keras would reset."""
        state = self.state() if resumed else {}
        self._all.on_train_begin()
        self.set_state(state)

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch; they count from 0."""
        self._all.on_epoch_begin(epoch)

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> None:
        """Finish an epoch; the learning rate is added to `logs`."""
        self._all.on_epoch_end(epoch, logs)

    def end(self) -> None:
        """Finish; the model gets the best epoch's weights."""
        self._all.on_train_end()

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what `set_state` takes. Everything but the best weights is a JSON value."""
        return {
            name: {key: _plain(getattr(callback, key)) for key in _FIELDS if hasattr(callback, key)}
            for name, callback in self._stateful.items()
        }

    def set_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take on the state of an interrupted training."""
        for name, values in state.items():
            for key, value in values.items():
                setattr(self._stateful[name], key, value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
