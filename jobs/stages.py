"""The two Ray Data pipelines of the scoring job: one line a stage, its cardinality beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig

from dfd_core import storage
from dfd_core.config import ExtractConfig
from dfd_core.output import OutputFolder
from dfd_core.sandbox import Sandbox
from dfd_core.schemas import VIDEO_PLAN, face_crops, to_table
from jobs.runtime import plain_errors

_PLAN_BLOCK_ROWS = 64
_CPUS_PER_WRITER = 8


def build_plan(out: OutputFolder, config: ExtractConfig, *, num_videos: int, num_cpus: int) -> Dataset:
    """Return the lazy dataset manifest → plan; `write` of it commits each video's plan once."""
    rows = max(1, min(_PLAN_BLOCK_ROWS, num_videos // (num_cpus * 4)))
    _commit_by("plan_key", out.checkpoint("plan"))
    fs, path = storage.filesystem(out.manifest)
    return (
        ray.data.read_parquet(path, filesystem=fs, columns=["plan_key", "uri"], num_cpus=0.1)
        .repartition(target_num_rows_per_block=rows)
        .map_batches(plan_block, batch_size=None, fn_kwargs={"config": config}, **_ARROW)  # 1 video : 1 plan
    )


def build_score(
    out: OutputFolder,
    config: ExtractConfig,
    *,
    model: str,
    precision: str,
    block_rows: int,
    num_cpus: int,
    num_gpus: float,
    tally: Any,
) -> Dataset:
    """Return the lazy dataset segments → results; `write` of it commits each segment's faces once."""
    _commit_by("segment_id", out.checkpoint("segments"))
    fs, path = storage.filesystem(out.segment_list)
    return (
        ray.data.read_parquet(path, filesystem=fs, num_cpus=0.1)
        .repartition(target_num_rows_per_block=block_rows)
        .map_batches(
            extract_block, batch_size=None, fn_kwargs={"config": config}, **_ARROW
        )  # 1 segment : 1 row of crops
        .map_batches(  # 1 segment : 1 result, pixels dropped
            ScoreBlock,
            batch_size=None,
            fn_constructor_kwargs={
                "model": model,
                "precision": precision,
                "crop_px": config.crop_px,
                "tally": tally,
            },
            **_actors(num_cpus, num_gpus),
            batch_format="pyarrow",
            zero_copy_batch=True,
        )
    )


def write(dataset: Dataset, folder: str, *, num_cpus: int) -> None:
    """Run `dataset` and append its rows to the Parquet files of `folder`, committing block by block."""
    fs, path = storage.filesystem(folder)
    # A write takes no CPU of its own: it would wait for one behind every extraction that is already queued. So their
    # number must be bounded instead, for each is a process.
    writers = max(1, num_cpus // _CPUS_PER_WRITER)
    with plain_errors():
        dataset.write_parquet(
            path, filesystem=fs, mode="append", ray_remote_args={"num_cpus": 0}, concurrency=writers
        )


_ARROW: dict[str, Any] = {"batch_format": "pyarrow", "num_cpus": 1, "zero_copy_batch": True}


def _commit_by(id_column: str, folder: str) -> None:
    fs, path = storage.filesystem(folder)
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column, path, delete_checkpoint_on_success=False, override_filesystem=fs
    )


def _actors(num_cpus: int, num_gpus: float) -> dict[str, Any]:
    """Return how the model is placed: an actor per GPU, else one per 16 CPUs that shares them with extraction.

    Scoring takes about a twentieth of extraction's CPU time, so an actor that owned a CPU would leave it idle.
    """
    if num_gpus >= 1:
        return {
            "compute": ActorPoolStrategy(min_size=1, max_size=int(num_gpus)),
            "num_gpus": 1,
            "num_cpus": 0,
        }
    return {"compute": ActorPoolStrategy(size=max(1, num_cpus // 16)), "num_cpus": 0}


# --- what runs in the workers -------------------------------------------------------------------------------------


def plan_block(requests: pa.Table, *, config: ExtractConfig) -> pa.Table:
    """Return the plans of a block of videos."""
    sandbox = _sandbox(config)
    return to_table([sandbox.plan(row) for row in requests.to_pylist()], VIDEO_PLAN)


def extract_block(segments: pa.Table, *, config: ExtractConfig) -> Iterator[pa.Table]:
    """Yield the face crops of a block of segments, one table a segment, so that no more than one is held."""
    sandbox, schema = _sandbox(config), face_crops(config.crop_px)
    for row in segments.to_pylist():
        yield to_table([sandbox.extract(row)], schema)


@lru_cache(maxsize=1)
def _sandbox(config: ExtractConfig) -> Sandbox:
    """Return this worker process's sandbox, whose child goes from one task to the next."""
    return Sandbox(config)


class ScoreBlock:
    """A model, loaded once, that scores block after block and reports what is done."""

    def __init__(self, model: str, precision: str, crop_px: int, tally: Any) -> None:
        """Load the model; a failure ends the job with its message."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from dfd_core.bundle import resolve_model
        from dfd_core.model import load_predictor

        self._predict = load_predictor(resolve_model(storage.local_copy(model)), precision=precision)
        self._crop_px = crop_px
        self._tally = tally
        tally.loaded.remote(self._predict.precision, self._predict.device)

    def __call__(self, segments: pa.Table) -> pa.Table:
        """Return the results of a block of segments."""
        from dfd_core.scoring import score_segments

        results = score_segments(segments, self._predict, crop_px=self._crop_px)
        self._tally.add.remote(
            results.column("plan_key").to_pylist(),
            [len(faces) for faces in results.column("faces")],
            [kind for kind in results.column("error_kind").to_pylist() if kind],
        )
        return results
