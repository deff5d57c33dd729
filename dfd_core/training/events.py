"""Each epoch's figures as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras


class EventLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes each epoch's figures in the layout of Keras' own TensorBoard callback, without the package `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`: `train` and `validation`."""
        super().__init__()
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write one epoch and close the files, so that they can be copied."""
        from tensorboardX import SummaryWriter

        for side, prefix in (("train", ""), ("validation", "val_")):
            figures = {
                name.removeprefix("val_"): value
                for name, value in (logs or {}).items()
                if name.startswith("val_") == bool(prefix)
            }
            with SummaryWriter(str(self._folder / side), filename_suffix=f".{epoch:05d}") as writer:
                for name, value in figures.items():
                    writer.add_scalar(f"epoch_{name}", float(value), epoch)
