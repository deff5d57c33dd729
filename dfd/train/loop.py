"""A training worker: feeds the `Trainer` from its shards, reports to Ray Train, resumes from its checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.train

from dfd.train.data import Feed
from dfd_core.errors import RequestError
from dfd_core.model.card import MODEL_FILENAME, ModelCard, card_from_fields
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table
from dfd_core.training.settings import TrainingSettings

VALIDATED_FILENAME = "validated.parquet"
VALIDATED = pa.schema(
    [pa.field("position", pa.int64()), pa.field("is_fake", pa.bool_()), pa.field("p_raw", pa.float32())]
)


@dataclass(frozen=True, slots=True)
class Job:
    """The orders of every worker.

    Attributes:
        settings: `TrainingSettings.to_json`.
        card: The fields of the card that say how crops become input.
        num_train: Places in the order of training, a multiple of the global batch.
        num_validation: Validation faces.
        fake_weight: What a self-blended face weighs.
        checkpoint_every_steps: 0 for one checkpoint an epoch.
        tally: The actor that shows progress.
    """

    settings: dict[str, Any]
    card: dict[str, Any]
    num_train: int
    num_validation: int
    fake_weight: float
    checkpoint_every_steps: int
    tally: Any


def train_worker(config: dict[str, Any]) -> None:
    """Train to the end. A `RequestError`, which the user can resolve, goes to the tally and is not raised."""
    job: Job = config["job"]
    try:
        _Worker(job).run()
    except RequestError as error:  # the same on every worker and in every attempt
        ray.get(job.tally.refuse.remote(type(error).__name__, str(error)))


class _Worker:
    def __init__(self, job: Job) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras

        from dfd_core.training.process import prepare_process, strategy_for
        from dfd_core.training.trainer import Trainer

        context = ray.train.get_context()
        self._rank = context.get_world_rank()
        self._job = job
        self._settings = settings = TrainingSettings.from_json(job.settings)
        threads = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
        device = prepare_process(num_threads=threads)
        strategy = strategy_for(settings.num_workers)
        card: ModelCard = card_from_fields(job.card)
        self._folder = tempfile.TemporaryDirectory(prefix="dfd-train-")
        self._trainer = Trainer(
            settings,
            card,
            strategy=strategy,
            steps_per_epoch=job.num_train // settings.batch_size,
            work_folder=self._folder.name,
        )
        self._train, self._validation = (
            Feed(ray.train.get_dataset_shard(side), settings.batch_per_worker, settings.input_size, threads)
            for side in ("train", "validation")
        )
        job.tally.ready.remote(
            self._rank, os.getpid(), self._trainer.precision, device, keras.backend.backend()
        )

    def run(self) -> None:
        """Train from the last checkpoint, or from the start."""
        with _checkpoint_folder() as folder:
            if folder is not None and (Path(folder) / MODEL_FILENAME).is_file():
                return  # a worker died after the result was reported
            if folder is not None:
                self._trainer.load(folder, first_worker=self._rank == 0)
        trainer = self._trainer
        trainer.begin()
        while not trainer.should_stop:
            self._run_epoch()
            trainer_logs = trainer.end_epoch(
                trainer.validate(self._validation.validation(), self._job.num_validation)
            )
            if self._rank == 0:
                self._job.tally.epoch.remote(trainer.epoch, trainer_logs)
            self._report(trainer_logs)
        trainer.end()
        self._report_result()

    def _run_epoch(self) -> None:
        trainer, settings, job = self._trainer, self._settings, self._job
        steps = job.num_train // settings.batch_size
        batches = self._train.training(
            augmentation=settings.augmentation,
            seed=settings.seed,
            epoch=trainer.epoch,
            shuffle_faces=settings.shuffle_faces,
            skip=trainer.step,
            fake_weight=job.fake_weight,
        )
        for batch in batches:
            trainer.train_step(batch)
            if self._rank == 0:
                job.tally.step.remote(trainer.epoch, trainer.step, steps, trainer.running()["loss"])
            every = job.checkpoint_every_steps
            if every and trainer.step % every == 0 and trainer.step < steps:
                if trainer.has_diverged:
                    return  # the rest of the epoch changes nothing, and this state is of no use
                self._report({})
        if trainer.step != steps:
            raise RuntimeError(f"Expected {steps} steps in the epoch. Received: {trainer.step}")

    def _report(self, logs: dict[str, float]) -> None:
        """Report to Ray Train, with the whole state from the first worker."""
        figures = {"epoch": self._trainer.epoch, "step": self._trainer.step, **logs}
        with self._new_folder() as folder:
            self._trainer.save(folder)
            ray.train.report(figures, checkpoint=_checkpoint(folder))

    def _report_result(self) -> None:
        """Report the model with the best epoch's weights, and its scores of the validation faces."""
        validated = self._trainer.validate(self._validation.validation(), self._job.num_validation)
        with self._new_folder() as folder:
            self._trainer.save(folder)
            if folder is not None:
                self._trainer.export(folder)
                columns = [range(len(validated.p_fake)), validated.is_fake, validated.p_fake]
                table = pa.table(
                    [pa.array(values, field.type) for values, field in zip(columns, VALIDATED, strict=True)],
                    schema=VALIDATED,
                )
                write_table(Address.parse(os.path.join(folder, VALIDATED_FILENAME)), table)
            ray.train.report({"done": True, **validated.figures()}, checkpoint=_checkpoint(folder))

    def _new_folder(self) -> Any:
        return tempfile.TemporaryDirectory(prefix="dfd-state-") if self._rank == 0 else nullcontext()


def _checkpoint(folder: str | None) -> Any:
    return None if folder is None else ray.train.Checkpoint.from_directory(folder)


@contextmanager
def _checkpoint_folder() -> Iterator[str | None]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield folder
