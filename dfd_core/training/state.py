"""A training's state in a folder: weights, optimizer, callbacks, position, history."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfd_core.training.settings import HISTORY_FILENAME, LOGS_FOLDER

_FILENAME = "state.json"
_ARRAYS = ("model", "optimizer", "best")


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a resumed training needs.

    Attributes:
        arrays: `model`, `optimizer` and `best` (the best epoch's weights, or none) → arrays in their order.
        position: Epoch, step, sums and the callbacks' plain values, as JSON holds them.
    """

    arrays: dict[str, list[npt.NDArray[Any]]]
    position: dict[str, Any]


def write_state(state: State, folder: Path) -> None:
    """Write `state` into an existing folder."""
    for name in _ARRAYS:
        np.savez(folder / f"{name}.npz", *state.arrays[name])
    (folder / _FILENAME).write_text(json.dumps(state.position))


def read_state(folder: Path) -> State:
    """Return what `write_state` wrote into `folder`."""
    arrays = {name: _load_arrays(folder / f"{name}.npz") for name in _ARRAYS}
    return State(arrays, json.loads((folder / _FILENAME).read_text()))


def copy_logs(source: Path, target: Path) -> None:
    """Copy the history and TensorBoard's files, as far as there are any."""
    if (source / HISTORY_FILENAME).is_file():
        shutil.copy(source / HISTORY_FILENAME, target / HISTORY_FILENAME)
    if (source / LOGS_FOLDER).is_dir():
        shutil.copytree(source / LOGS_FOLDER, target / LOGS_FOLDER, dirs_exist_ok=True)


def _load_arrays(path: Path) -> list[npt.NDArray[Any]]:
    with np.load(path) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
