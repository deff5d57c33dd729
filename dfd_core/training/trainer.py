"""Training: epochs of steps on every worker, validated, and resumed from a saved state.

Every worker calls every method of its `Trainer`, in the same order: several of them wait for the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dfd_core.errors import RequestError
from dfd_core.model.card import MODEL_FILENAME, ModelCard
from dfd_core.model.preprocess import to_model_input
from dfd_core.training.batch import Batch, Validated, targets_of
from dfd_core.training.callbacks import Callbacks
from dfd_core.training.network import build_network, dtype_policy
from dfd_core.training.optimizer import build_optimizer, cosine_rate
from dfd_core.training.process import training_precision
from dfd_core.training.settings import TrainingSettings
from dfd_core.training.state import State, copy_logs, read_state, write_state
from dfd_core.training.steps import Objective, as_array, steps_for

_MOVING = ("moving_mean", "moving_variance")


class Trainer:
    """One worker's model, optimizer and callbacks.

    Attributes:
        epoch: Epochs that are finished.
        step: Steps that are finished in the current epoch.
        precision: What the model computes in.
        model: The `keras.Model`.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        card: ModelCard,
        *,
        strategy: Any,
        steps_per_epoch: int,
        work_folder: str | os.PathLike[str],
        build: Callable[[TrainingSettings], Any] = build_network,
    ) -> None:
        """Build everything; the weights are the same on every worker.

        Args:
            settings: What to do.
            card: How crops become the model's input.
            strategy: What `process.strategy_for` returned.
            steps_per_epoch: Steps of each worker in an epoch.
            work_folder: A folder of this worker's own, for the history and TensorBoard's files.
            build: Makes the model, for tests.
        """
        self.epoch = 0
        self.step = 0
        self.precision = training_precision(settings.precision)
        self._settings = settings
        self._card = card
        self._build = build
        self._folder = Path(work_folder)
        self._steps_per_epoch = steps_per_epoch
        self._has_ended = False
        self._sums = np.zeros(3, np.float64)  # loss, right answers, weight of this worker's part of the epoch
        scope = contextlib.nullcontext() if strategy is None else strategy.scope()
        with scope, dtype_policy(self.precision):
            self.model = build(settings)
            self._optimizer = build_optimizer(
                settings,
                self.precision,
                variables=self.model.trainable_variables,
                total_steps=self._total_steps,
            )
            self.model.compile(optimizer=self._optimizer)
        objective = Objective(settings.batch_size, settings.label_smoothing, settings.num_workers)
        fake = card.classes.index("fake")
        self._steps = steps_for(self.model, self._optimizer, objective, strategy=strategy, fake=fake)
        self._callbacks = Callbacks(settings, self.model, self._folder)

    @property
    def _total_steps(self) -> int:
        return self._settings.epochs * self._steps_per_epoch

    # ---- one epoch ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start, or resume after `load`."""
        self._callbacks.begin(resumed=bool(self.epoch or self.step))

    @property
    def should_stop(self) -> bool:
        """Whether all epochs are done, early stopping ended the training, or it has diverged."""
        return self.epoch >= self._settings.epochs or bool(self.model.stop_training)

    def train_step(self, batch: Batch) -> None:
        """Take one step on this worker's part of a global batch."""
        if self.step == 0:
            self._sums = np.zeros(3, np.float64)
            self._callbacks.begin_epoch(self.epoch)
        if self._settings.lr_schedule == "cosine":
            step = self.epoch * self._steps_per_epoch + self.step
            self._optimizer.learning_rate = cosine_rate(self._settings, step, self._total_steps)
        images = to_model_input(batch.crops, self._card)
        self._sums += self._steps.train(images, targets_of(batch.is_fake), batch.weight)
        self.step += 1

    @property
    def has_diverged(self) -> bool:
        """Whether a weight is not finite. It is the same on every worker after a step, and stays so."""
        return not all(np.isfinite(as_array(value)).all() for value in self.model.trainable_variables)

    def running(self) -> dict[str, float]:
        """Return this worker's own loss and accuracy so far in the epoch."""
        loss, right, weight = self._sums
        return {"loss": loss / max(weight, 1e-9), "accuracy": right / max(weight, 1e-9)}

    def validate(self, batches: Iterable[Batch], count: int) -> Validated:
        """Return what the model says of all validation faces.

        Args:
            batches: This worker's; as many as on every other worker. Faces of weight 0 are left out.
            count: Validation faces over all workers, their positions being 0 to `count - 1`.
        """
        self._share_statistics()
        found = np.zeros((3, count), np.float32)
        with self._averaged_weights():
            for batch in batches:
                p_fake = self._steps.p_fake(to_model_input(batch.crops, self._card))
                real = batch.weight > 0
                found[:, batch.position[real]] += np.stack([p_fake, batch.is_fake, np.ones_like(p_fake)])[
                    :, real
                ]
        p_fake, is_fake, seen = self._steps.sum_over_workers(found)
        if not (seen == 1).all():
            raise RuntimeError(
                f"{int((seen != 1).sum())} of {count} validation faces were not seen exactly once"
            )
        return Validated(p_fake, is_fake > 0.5)

    def end_epoch(self, validated: Validated) -> dict[str, float]:
        """Finish the epoch and return its figures, over all workers.

        A training that diverges after its first epoch ends there with the best epoch's weights.

        Raises:
            RequestError: It diverged in its first epoch.
        """
        if self.has_diverged:
            validated = dataclasses.replace(validated, p_fake=np.full_like(validated.p_fake, np.nan))
        if self.epoch == 0 and not validated.is_finite:
            raise RequestError(self._diverged())
        loss, right, weight = self._steps.sum_over_workers(self._sums)
        logs = {"loss": float(loss / weight), "accuracy": float(right / weight), **validated.figures()}
        if self._settings.lr_schedule == "cosine":
            logs["learning_rate"] = float(as_array(self._optimizer.learning_rate))
        with self._averaged_weights():  # they are what early stopping keeps
            self._callbacks.end_epoch(self.epoch, logs)
        self.model.stop_training |= not validated.is_finite
        self.epoch, self.step = self.epoch + 1, 0
        self._sums = np.zeros(3, np.float64)
        return logs

    def _diverged(self) -> str:
        precise = "" if self.precision == "float32" else " or --precision float32"
        return (
            "The training diverged in its first epoch: the model's scores are not finite. Start again with --overwrite and "
            f"a lower --learning-rate{precise}. Received: {self._settings.learning_rate:g}, {self.precision}"
        )

    def end(self) -> None:
        """Finish; from here on the model has the best epoch's weights."""
        self._callbacks.end()
        self._has_ended = True

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Put the moving average of the weights into the model while the block runs, if one is kept."""
        if self._settings.average is None or self._has_ended:
            yield
            return
        variables = self.model.trainable_variables
        own = [as_array(variable) for variable in variables]
        self._optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    def _share_statistics(self) -> None:
        """Give every worker the mean of all workers' moving statistics, which each keeps of its own batches."""
        workers = self._steps.num_workers
        moving = [v for v in self.model.non_trainable_variables if v.name in _MOVING] if workers > 1 else []
        if not moving:
            return
        values = [as_array(variable) for variable in moving]
        joined = np.concatenate([value.ravel() for value in values])
        shared = self._steps.sum_over_workers(joined) / np.float32(workers)
        parts = np.split(shared, np.cumsum([value.size for value in values])[:-1])
        for variable, part in zip(moving, parts, strict=True):
            variable.assign(part.reshape(variable.shape))

    # ---- state ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str] | None) -> None:
        """Write everything that `load` needs into `folder`; with None only take part, as every worker must."""
        self._share_statistics()
        sums = self._steps.sum_over_workers(self._sums)
        callbacks = self._callbacks.state()
        arrays = {
            "model": [as_array(value) for value in self.model.variables],
            "optimizer": [as_array(value) for value in self._optimizer.variables],
            "best": callbacks["stopping"].pop("best_weights") or [],
        }
        if folder is None:
            return
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": sums.tolist(),
            "stop": bool(self.model.stop_training),
            "callbacks": callbacks,
        }
        write_state(State(arrays, position), Path(folder))
        copy_logs(self._folder, Path(folder))

    def load(self, folder: str | os.PathLike[str], *, first_worker: bool) -> None:
        """Take on the state in `folder`, written by `save` of any worker; `begin` comes next."""
        state = read_state(Path(folder))
        for variables, name in ((self.model.variables, "model"), (self._optimizer.variables, "optimizer")):
            for variable, value in zip(variables, state.arrays[name], strict=True):
                variable.assign(value)
        position = state.position
        self.epoch, self.step = position["epoch"], position["step"]
        self._sums = np.array(position["sums"]) * first_worker  # they are of all workers together
        self.model.stop_training = position["stop"]
        position["callbacks"]["stopping"]["best_weights"] = state.arrays["best"] or None
        self._callbacks.set_state(position["callbacks"])
        copy_logs(Path(folder), self._folder)

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write `model.keras` with the present weights in float32, whatever the precision of the training."""
        with dtype_policy("float32"):
            plain = self._build(dataclasses.replace(self._settings, weights="none"))
        plain.set_weights(self.model.get_weights())
        path = Path(folder) / MODEL_FILENAME
        plain.save(path)
        return path
