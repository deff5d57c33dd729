"""A training on Ray: writes the faces in order, then runs Ray Train's workers."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import ray
import ray.train
from ray.data import ExecutionOptions
from ray.train.tensorflow import TensorflowTrainer

from dfd.cluster.runtime import LOG, cluster_cpus, cluster_gpus
from dfd.train.data import FaceTables, read_index, stream_side, write_side
from dfd.train.loop import Job, train_worker
from dfd.train.progress import TrainProgress
from dfd_core import errors
from dfd_core.errors import RequestError
from dfd_core.model.card import ModelCard
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes, write_bytes
from dfd_core.storage.tables import read_table, write_table
from dfd_core.training.face_index import usable_faces
from dfd_core.training.labelled import Labelled
from dfd_core.training.placement import place
from dfd_core.training.report import blend_facts, side_counts
from dfd_core.training.sampling import Ints, balanced_weights, draw_epoch, parse_weights
from dfd_core.training.settings import TrainingSettings
from dfd_core.training.splits import audit, split_by_group

_WORK = "work"
_RUN_NAME = "training"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The faces on disk, and their counts.

    Attributes:
        num_train: Places in the order of training.
        num_validation: Validation faces.
        fake_weight: What a self-blended face weighs.
        facts: Counts by side, faces left out, the split and its audit, for the card.
    """

    num_train: int
    num_validation: int
    fake_weight: float
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of Ray Train.

    Attributes:
        folder: A local copy of the last checkpoint: model, history, logs, scores of the validation faces.
        workers: Process, precision, device and backend of each worker.
    """

    folder: Path
    workers: list[dict[str, Any]]


def prepare(out: OutputFolder, labelled: Labelled, address: str, settings: TrainingSettings) -> Prepared:
    """Split the faces and write each side in its order. A resumed run uses what is there.

    Raises:
        RequestError: The faces cannot be used or split.
    """
    marker = _address(out, "prepared.json")
    if exists(marker):
        return Prepared(**json.loads(read_bytes(marker)))
    LOG.info("Reading and checking the faces")
    tables = FaceTables(Address.parse(address), labelled, _address(out, "images.parquet"))
    faces = usable_faces(read_index(tables))
    split = split_by_group(faces.rows, validation=settings.validation, seed=settings.seed)
    found = audit(faces.rows, split.is_validation)
    rows = faces.rows.assign(component=split.component)
    sides = {
        "train": rows[~split.is_validation],
        "validation": rows[split.is_validation].reset_index(drop=True),
    }
    train, blends = sides["train"], settings.augmentation.self_blend
    order = draw_epoch(train["dataset"], parse_weights(settings.dataset_weights), settings.seed)
    weights = (
        balanced_weights(train["is_fake"].to_numpy()[order], self_blend=blends)
        if settings.class_balance == "weights"
        else (1.0, 1.0)
    )
    placements = {
        "train": place(train, multiple=settings.batch_size, order=order, weight_of_label=weights),
        "validation": place(sides["validation"], multiple=settings.batch_size),
    }
    for name, placement in placements.items():
        write_side(tables, placement, _address(out, name))
    names = ["video_id", "component", "frame_index", "is_fake"]
    write_table(_address(out, "validation_faces.parquet"), pa.Table.from_pandas(sides["validation"][names]))
    facts = {
        **{name: side_counts(side) for name, side in sides.items()},
        "left_out": faces.left_out,
        "groups": split.num_groups,
        "groups_joined_by_identical_images": split.num_joined_groups,
        "images_shared_by_groups": split.num_shared_images,
        "faces_repeated_to_fill_the_last_step": placements["train"].size - placements["train"].count,
        "audit": found,
        **({"detector": labelled.detector} if labelled.detector else {}),
        **({"places_by_dataset": _by_dataset(train, order)} if settings.dataset_weights else {}),
        **({"self_blend": blend_facts(train, blends)} if blends else {}),
    }
    prepared = Prepared(placements["train"].size, placements["validation"].count, weights[1], facts)
    write_bytes(marker, json.dumps(asdict(prepared)).encode())
    return prepared


def _by_dataset(train: pd.DataFrame, order: Ints) -> dict[str, int]:
    """Return how many places of an epoch each dataset has."""
    return {str(name): int(count) for name, count in train["dataset"].iloc[order].value_counts().items()}


def fit(
    out: OutputFolder,
    prepared: Prepared,
    card: ModelCard,
    settings: TrainingSettings,
    *,
    checkpoint_every_steps: int,
    max_failures: int,
    use_gpu: str,
) -> Fitted:
    """Train on the workers and return their result.

    Raises:
        RequestError: The model cannot be built, or the cluster has no room for the workers.
        ray.train.TrainingFailedError: Workers were lost more than `max_failures` times.
    """
    logging.getLogger("ray.train").setLevel(LOG.level if LOG.level < logging.INFO else logging.CRITICAL)
    scaling = _scaling(settings.num_workers, use_gpu)
    kept = _address(out, "ray")
    kept.fs.create_dir(kept.path, recursive=True)
    LOG.info("Starting %d training workers", settings.num_workers)
    with TrainProgress(epochs=settings.epochs, batch_size=settings.batch_size) as progress:
        job = Job(
            settings.to_json(),
            worker_card(card),
            prepared.num_train,
            prepared.num_validation,
            prepared.fake_weight,
            checkpoint_every_steps,
            progress.tally,
        )
        trainer = TensorflowTrainer(
            train_worker,
            train_loop_config={"job": job},
            scaling_config=scaling,
            datasets={
                side: stream_side(_address(out, side), input_size=settings.input_size)
                for side in ("train", "validation")
            },
            # In order: the same faces go to the same worker in every epoch and in every attempt.
            dataset_config=ray.train.DataConfig(execution_options=ExecutionOptions(preserve_order=True)),
            run_config=ray.train.RunConfig(
                name=_RUN_NAME,
                storage_path=kept.path,
                storage_filesystem=kept.fs,
                failure_config=ray.train.FailureConfig(max_failures=max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                worker_runtime_env=worker_environment(os.environ),
            ),
        )
        # Ray Train's own handler of Ctrl-C exits with 0. Without it the driver ends, and its actors with it.
        trainer._register_sigint_handler = lambda controller: None
        result = trainer.fit()
    if progress.refused is not None or result.checkpoint is None:
        remove_run(out)  # Ray Train holds it for finished, without a model
        raise refusal_of_workers(progress.refused)
    folder = Path(tempfile.mkdtemp(prefix="dfd-trained-"))
    result.checkpoint.to_directory(str(folder))
    return Fitted(folder, [progress.workers[rank] for rank in sorted(progress.workers)])


def worker_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return Ray's runtime environment of the workers: Keras' backend, if this process was given one.

    It must be set when a worker's process starts: Ray Train imports Keras before the training is called.

    >>> worker_environment({"KERAS_BACKEND": "jax", "HOME": "/"})
    {'env_vars': {'KERAS_BACKEND': 'jax'}}
    """
    backend = environment.get("KERAS_BACKEND")
    return {"env_vars": {"KERAS_BACKEND": backend}} if backend else {}


def worker_card(card: ModelCard) -> dict[str, Any]:
    """Return the fields of the card by which workers prepare faces; its name does not matter there."""
    return {"name": card.name, "input_size": card.input_size, **card.meaning}


def refusal_of_workers(told: tuple[str, str] | None) -> RequestError:
    """Return what the workers refused, as they told it: kind and message; None if the tally did not answer."""
    if told is None:
        return RequestError(
            "The training ended without a model, and why is not known: the process that keeps the workers' messages did "
            "not answer. The same command starts again."
        )
    kind, message = told
    found: RequestError = getattr(errors, kind, RequestError)(message)
    return found


def read_validation_faces(out: OutputFolder, p_raw: pa.Table) -> pd.DataFrame:
    """Return the validation faces with their scores: `video_id component frame_index is_fake p_raw`."""
    faces = read_table(_address(out, "validation_faces.parquet")).to_pandas()
    scores = p_raw.to_pandas().sort_values("position", ignore_index=True)
    if not (scores["is_fake"] == faces["is_fake"]).all():
        raise ValueError("Expected the workers' labels to be those of the split")
    return faces.assign(p_raw=scores["p_raw"])


def remove_work(out: OutputFolder) -> None:
    """Remove the copies of the faces and the checkpoints; the bundle is complete without them."""
    work = out.root / _WORK
    if work.fs.get_file_info(work.path).type == pafs.FileType.Directory:
        work.fs.delete_dir(work.path)


def remove_run(out: OutputFolder) -> None:
    """Remove Ray Train's state, so that the next run starts from the beginning."""
    kept = _address(out, "ray")
    kept.fs.delete_dir(kept.path)


def _address(out: OutputFolder, name: str) -> Address:
    return out.root / _WORK / name


def _scaling(num_workers: int, use_gpu: str) -> Any:
    """Return the resources of each worker: a share of half the CPUs, and a GPU if there is one. The other half decodes.

    Raises:
        RequestError: GPUs were asked for that the cluster does not have.
    """
    gpus, cpus = cluster_gpus(), cluster_cpus()
    if use_gpu == "yes" and gpus < num_workers:
        raise RequestError(
            f"Expected a GPU for each of {num_workers} workers. Received: {gpus:g} in the cluster"
        )
    on_gpu = use_gpu == "yes" or (use_gpu == "auto" and gpus >= num_workers)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    share = cpus_of_worker(sizes, cpus / 2 / num_workers, num_workers=num_workers, on_gpu=on_gpu)
    return ray.train.ScalingConfig(
        num_workers=num_workers,
        use_gpu=on_gpu,
        resources_per_worker={"CPU": share, **({"GPU": 1} if on_gpu else {})},
        placement_strategy="PACK" if on_gpu else "SPREAD",
    )


def cpus_of_worker(
    nodes: Sequence[tuple[float, float]], share: float, *, num_workers: int, on_gpu: bool
) -> float:
    """Return the most whole CPUs, up to `share`, for which every worker fits on a node; Ray would wait for more.

    >>> cpus_of_worker([(16, 0)] * 4, 32.0, num_workers=1, on_gpu=False)
    16
    >>> cpus_of_worker([(16, 0)] * 8 + [(8, 2)], 34.0, num_workers=2, on_gpu=True)
    4

    Args:
        nodes: CPUs and GPUs of each.
        share: CPUs of a worker on a single machine.
        num_workers: Workers to find room for.
        on_gpu: Whether each takes a GPU.

    Returns:
        Less than 1 if there is less than one CPU for each: `share`, or 0 with a GPU.
    """
    for cpus in range(int(share), 0, -1):
        room = sum(
            min(int(node_cpus // cpus), int(gpus)) if on_gpu else int(node_cpus // cpus)
            for node_cpus, gpus in nodes
        )
        if room >= num_workers:
            return cpus
    return 0 if on_gpu else min(share, 1.0)
