"""Training: the model, the optimizer, one step on every worker, and a state that survives any of them.

`model.fit` does not work under `MultiWorkerMirroredStrategy` in Keras 3, so the step is written out here. Early
stopping, the learning rate's schedule and the log are Keras' own callbacks, driven by `Trainer`.

Every worker calls every method of its `Trainer`, in the same order: several of them wait for the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context

from dfd_core.errors import ModelError, RequestError
from dfd_core.model.build import build_classifier
from dfd_core.model.card import MODEL_FILENAME, ModelCard
from dfd_core.model.fetch import local_model
from dfd_core.model.preprocess import to_model_input
from dfd_core.training.settings import HISTORY_FILENAME, LOGS_FOLDER, TrainingSettings

_STATE_FILENAME = "state.json"
_ARRAYS = ("model", "optimizer", "best")
_MOVING = ("moving_mean", "moving_variance")
_MOST_SILENT_MS = 60_000
_EPSILON = 1e-7  # Keras' own distance of a probability from 0 and 1 in a loss
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """One worker's part of a step.

    Attributes:
        crops: uint8 (n, size, size, 3), RGB.
        is_fake: (n,) bool.
        weight: (n,) float32, at least 0; 0 for a face that only fills the batch.
        position: (n,) int64: the face's place in its table.
    """

    crops: npt.NDArray[np.uint8]
    is_fake: npt.NDArray[np.bool_]
    weight: Floats
    position: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Validated:
    """What the model says of every validation face, the same on every worker.

    Attributes:
        p_fake: (faces,) float32 in [0, 1], by position; NaN of a model that diverged.
        is_fake: (faces,) bool.
    """

    p_fake: Floats
    is_fake: npt.NDArray[np.bool_]

    @property
    def is_finite(self) -> bool:
        """Whether the model says something of every face."""
        return bool(np.isfinite(self.p_fake).all())

    def figures(self) -> dict[str, float]:
        """Return loss, accuracy at 0.5 and ROC AUC over all faces, each counting once; NaN of a model that diverged."""
        if not self.is_finite:
            return dict.fromkeys(("val_loss", "val_accuracy", "val_auc"), math.nan)
        p_true = np.where(self.is_fake, self.p_fake, 1 - self.p_fake).astype(np.float64)
        return {
            "val_loss": float(-np.log(np.clip(p_true, _EPSILON, 1 - _EPSILON)).mean()),
            "val_accuracy": float(((self.p_fake >= 0.5) == self.is_fake).mean()),
            "val_auc": float(roc_auc_score(self.is_fake, self.p_fake)),
        }


def prepare_process(*, num_threads: int | None) -> str:
    """Set up TensorFlow before its first use in this process and return `cpu` or `gpu`."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if num_threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, num_threads))
    return "gpu" if gpus else "cpu"


def strategy_for(num_workers: int) -> Any:
    """Return the strategy of this process; more than one worker needs `TF_CONFIG` in the environment."""
    if num_workers == 1:
        return tf.distribute.get_strategy()
    _be_patient_with_silent_workers(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"])
    return tf.distribute.MultiWorkerMirroredStrategy()


def _be_patient_with_silent_workers(addresses: Sequence[str]) -> None:
    """Let a worker be silent for a minute.

    The strategy would end the training after ten seconds, which a machine with more work than CPUs reaches. That a
    worker has died is Ray Train's to notice. The strategy leaves a service alone that is configured already.
    """
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=_MOST_SILENT_MS,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=len(addresses))],
    )


def training_precision(precision: str) -> str:
    """Return what `precision` is here: `auto` is bfloat16 where the hardware has it, else float32."""
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float32"
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        if "avx512_bf16" in flags or "amx_bf16" in flags:
            return "bfloat16"
    return "float32"


def build_network(settings: TrainingSettings) -> Any:
    """Return the classifier that `settings` describe, with what is frozen frozen.

    Raises:
        ModelError: The backbone does not take this size or these weights, or has no such layer.
    """
    model = build_classifier(
        settings.backbone,
        input_size=settings.input_size,
        weights=None if settings.weights == "none" else local_model(settings.weights),
        seed=settings.seed,
    )
    model.layers[-1].dtype_policy = "float32"  # a softmax in half precision has no small probabilities
    body = model.layers[0]
    if settings.freeze_until is not None:
        _freeze(body, settings.freeze_until)
    if settings.batch_norm_momentum is not None:
        for layer in body._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = settings.batch_norm_momentum
    return model


def _freeze(body: Any, last: str) -> None:
    names = [layer.name for layer in body.layers]
    if last not in names:
        near = ", ".join(difflib.get_close_matches(last, names, n=5, cutoff=0.3) or names[-5:])
        raise ModelError(f"The backbone has no layer {last!r} to freeze until. Some that it has: {near}")
    for layer in body.layers[: names.index(last) + 1]:
        layer.trainable = False


def build_optimizer(settings: TrainingSettings, precision: str) -> Any:
    """Return the optimizer; with its loss scaled where float16 would lose small gradients."""
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    optimizer = kinds[settings.optimizer](learning_rate=settings.learning_rate)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "float16" else optimizer


class Trainer:
    """One worker's model, optimizer and callbacks.

    Attributes:
        epoch: Epochs that are finished.
        step: Steps that are finished of the epoch that runs.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        card: ModelCard,
        *,
        strategy: Any,
        work_folder: str | os.PathLike[str],
        build: Callable[[TrainingSettings], Any] = build_network,
    ) -> None:
        """Build everything; the weights are the same on every worker.

        Args:
            settings: What to do.
            card: How crops become the model's input.
            strategy: What `strategy_for` returned.
            work_folder: A folder of this worker's own, for the history and TensorBoard's files.
            build: Makes the model, for tests.
        """
        self.epoch = 0
        self.step = 0
        self.precision = training_precision(settings.precision)
        self._settings = settings
        self._card = card
        self._strategy = strategy
        self._build = build
        self._folder = Path(work_folder)
        self._sums = np.zeros(3, np.float64)  # loss, right answers, weight of this worker's part of the epoch
        with strategy.scope(), _policy(self.precision):
            self.model = build(settings)
            self._optimizer = build_optimizer(settings, self.precision)
            self._optimizer.build(self.model.trainable_variables)
            self.model.compile(optimizer=self._optimizer)
        self._callbacks = self._build_callbacks()
        self._train = tf.function(self._distributed_step, autograph=False)
        self._predict = tf.function(self._distributed_predict, autograph=False)
        self._sum = tf.function(self._distributed_sum, autograph=False)

    # ---- one epoch ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start, or go on after `load`."""
        state = _callback_state(self._stateful()) if self.epoch or self.step else {}
        self._callbacks.on_train_begin()
        _set_callback_state(self._stateful(), state)

    @property
    def should_stop(self) -> bool:
        """Whether no epoch is left, early stopping has had enough, or the training has diverged."""
        return self.epoch >= self._settings.epochs or bool(self.model.stop_training)

    def train_step(self, batch: Batch) -> None:
        """Take one step on this worker's part of a global batch."""
        if self.step == 0:
            self._sums = np.zeros(3, np.float64)
            self._callbacks.on_epoch_begin(self.epoch)
        images = tf.constant(to_model_input(batch.crops, self._card))
        sums = self._train(images, tf.constant(_targets(batch.is_fake)), tf.constant(batch.weight))
        self._sums += sums.numpy()
        self.step += 1

    @property
    def has_diverged(self) -> bool:
        """Whether a weight is no number; the same on every worker after a step, and for good."""
        return not all(np.isfinite(np.asarray(value)).all() for value in self.model.trainable_variables)

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
        for batch in batches:
            p_fake = self._predict(tf.constant(to_model_input(batch.crops, self._card))).numpy()
            real = batch.weight > 0
            found[:, batch.position[real]] += np.stack([p_fake, batch.is_fake, np.ones_like(p_fake)])[:, real]
        p_fake, is_fake, seen = self._sum_over_workers(found)
        if not (seen == 1).all():
            raise RuntimeError(
                f"{int((seen != 1).sum())} of {count} validation faces were not seen exactly once"
            )
        return Validated(p_fake, is_fake > 0.5)

    def end_epoch(self, validated: Validated) -> dict[str, float]:
        """Finish the epoch and return its figures, over all workers.

        A training that diverges in a later epoch ends there: an earlier one was the best.

        Raises:
            RequestError: It diverged in its first epoch.
        """
        if self.has_diverged:
            validated = dataclasses.replace(validated, p_fake=np.full_like(validated.p_fake, np.nan))
        if self.epoch == 0 and not validated.is_finite:
            raise RequestError(self._diverged())
        loss, right, weight = self._sum_over_workers(self._sums)
        logs = {"loss": float(loss / weight), "accuracy": float(right / weight), **validated.figures()}
        self._callbacks.on_epoch_end(self.epoch, logs)
        self.model.stop_training |= not validated.is_finite
        self.epoch, self.step = self.epoch + 1, 0
        self._sums = np.zeros(3, np.float64)
        return logs

    def _diverged(self) -> str:
        precise = "" if self.precision == "float32" else " or --precision float32"
        return (
            "The training diverged in its first epoch: the model's scores are no numbers. Start anew with --overwrite and "
            f"a lower --learning-rate{precise}. Received: {self._settings.learning_rate:g}, {self.precision}"
        )

    def end(self) -> None:
        """Finish; the best epoch's weights are the model's from here on."""
        self._callbacks.on_train_end()

    # ---- the step -------------------------------------------------------------------------------------------------

    def _distributed_step(self, images: Any, targets: Any, weight: Any) -> Any:
        return self._strategy.run(self._step, args=(images, targets, weight))

    def _step(self, images: Any, targets: Any, weight: Any) -> Any:
        """Apply the gradient of the mean loss over the global batch; return this worker's sums."""
        workers = self._strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            outputs = tf.cast(self.model(images, training=True), tf.float32)
            # -ln of the truth's probability, which for two classes is binary cross-entropy. Keras' function of that name
            # would take the softmax' logits for a sigmoid's, and learn something else.
            losses = keras.losses.categorical_crossentropy(targets, outputs) * weight
            loss = tf.reduce_sum(losses) / self._settings.batch_size
            if self.model.losses:
                loss += tf.add_n([tf.cast(extra, tf.float32) for extra in self.model.losses]) / workers
            scaled = self._optimizer.scale_loss(loss)
        variables = [variable.value for variable in self.model.trainable_variables]
        gradients = tape.gradient(scaled, variables)  # summed over the workers by the optimizer
        self._optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        right = tf.cast(tf.argmax(outputs, 1) == tf.argmax(targets, 1), tf.float32)
        return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right * weight), tf.reduce_sum(weight)])

    def _distributed_predict(self, images: Any) -> Any:
        return self._strategy.run(self._p_fake, args=(images,))

    def _p_fake(self, images: Any) -> Any:
        return tf.cast(self.model(images, training=False), tf.float32)[:, self._card.classes.index("fake")]

    def _sum_over_workers(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._strategy.num_replicas_in_sync == 1:
            return values
        return np.asarray(self._sum(tf.constant(values)))

    def _share_statistics(self) -> None:
        """Give every worker the mean of all workers' moving statistics, which each keeps of its own batches."""
        workers = self._strategy.num_replicas_in_sync
        moving = [v for v in self.model.non_trainable_variables if v.name in _MOVING] if workers > 1 else []
        if not moving:
            return
        values = [np.asarray(variable) for variable in moving]
        shared = self._sum_over_workers(np.concatenate([value.ravel() for value in values])) / np.float32(
            workers
        )
        parts = np.split(shared, np.cumsum([value.size for value in values])[:-1])
        for variable, part in zip(moving, parts, strict=True):
            variable.assign(part.reshape(variable.shape))

    def _distributed_sum(self, values: Any) -> Any:
        mine = self._strategy.run(tf.identity, args=(values,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, mine, axis=None)

    # ---- callbacks ------------------------------------------------------------------------------------------------

    def _build_callbacks(self) -> Any:
        settings = self._settings
        self._stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", mode="min", patience=settings.patience, restore_best_weights=True
        )
        self._schedule = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            mode="min",
            factor=settings.lr_factor,
            patience=settings.lr_patience,
            min_lr=settings.min_learning_rate,
            min_delta=0.0,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        history = keras.callbacks.CSVLogger(str(self._folder / HISTORY_FILENAME), append=True)
        callbacks = [self._stopping, self._schedule, history, EventLog(self._folder / LOGS_FOLDER)]
        return keras.callbacks.CallbackList(callbacks, model=self.model)

    def _stateful(self) -> dict[str, Any]:
        return {"stopping": self._stopping, "schedule": self._schedule}

    # ---- state ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str] | None) -> None:
        """Write everything that `load` needs into `folder`; with None only take part, as every worker must."""
        self._share_statistics()
        sums = self._sum_over_workers(self._sums)
        callbacks = _callback_state(self._stateful())
        arrays = {
            "model": [np.asarray(value) for value in self.model.variables],
            "optimizer": [np.asarray(value) for value in self._optimizer.variables],
            "best": callbacks["stopping"].pop("best_weights") or [],
        }
        if folder is None:
            return
        target = Path(folder)
        for name in _ARRAYS:
            np.savez(target / f"{name}.npz", *arrays[name])
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": sums.tolist(),
            "stop": bool(self.model.stop_training),
            "callbacks": callbacks,
        }
        (target / _STATE_FILENAME).write_text(json.dumps(state))
        self.save_logs(target)

    def save_logs(self, folder: Path) -> None:
        """Copy the history and TensorBoard's files into `folder`."""
        if (self._folder / HISTORY_FILENAME).is_file():
            shutil.copy(self._folder / HISTORY_FILENAME, folder / HISTORY_FILENAME)
        if (self._folder / LOGS_FOLDER).is_dir():
            shutil.copytree(self._folder / LOGS_FOLDER, folder / LOGS_FOLDER, dirs_exist_ok=True)

    def load(self, folder: str | os.PathLike[str], *, first_worker: bool) -> None:
        """Take on the state in `folder`, written by `save` of any worker; to be followed by `begin`."""
        source = Path(folder)
        state = json.loads((source / _STATE_FILENAME).read_text())
        arrays = {name: _load_arrays(source / f"{name}.npz") for name in _ARRAYS}
        for variables, name in ((self.model.variables, "model"), (self._optimizer.variables, "optimizer")):
            for variable, value in zip(variables, arrays[name], strict=True):
                variable.assign(value)
        self.epoch, self.step = state["epoch"], state["step"]
        self._sums = np.array(state["sums"]) * first_worker  # they are of all workers together
        self.model.stop_training = state["stop"]
        _set_callback_state(self._stateful(), state["callbacks"])
        self._stopping.best_weights = arrays["best"] or None
        if (source / HISTORY_FILENAME).is_file():
            shutil.copy(source / HISTORY_FILENAME, self._folder / HISTORY_FILENAME)
        if (source / LOGS_FOLDER).is_dir():
            shutil.copytree(source / LOGS_FOLDER, self._folder / LOGS_FOLDER, dirs_exist_ok=True)

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write `model.keras` with the present weights in float32, whatever it was trained in, and return its path."""
        with _policy("float32"):
            plain = self._build(dataclasses.replace(self._settings, weights="none"))
        plain.set_weights(self.model.get_weights())
        path = Path(folder) / MODEL_FILENAME
        plain.save(path)
        return path


class EventLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes each epoch's figures as TensorBoard event files, in the layout of Keras' own callback.

    That one needs the package `tensorboard`, which writes with what this uses.
    """

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


def _targets(is_fake: npt.NDArray[np.bool_]) -> Floats:
    """Return (n, 2) float32, the classes' order being fake, real.

    >>> _targets(np.array([True, False])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.stack([is_fake, ~is_fake], axis=1).astype(np.float32)


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


_CALLBACK_FIELDS = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter", "best_weights")


def _callback_state(callbacks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: _plain(getattr(callback, key)) for key in _CALLBACK_FIELDS if hasattr(callback, key)}
        for name, callback in callbacks.items()
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _set_callback_state(callbacks: dict[str, Any], state: dict[str, dict[str, Any]]) -> None:
    for name, values in state.items():
        for key, value in values.items():
            setattr(callbacks[name], key, value)


def _load_arrays(path: Path) -> list[npt.NDArray[Any]]:
    with np.load(path) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
