"""The Ray Data pipelines: one line a stage, its cardinality beside it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig, CheckpointManager
from ray.util.annotations import RayDeprecationWarning

from dfd.cluster import metrics
from dfd.cluster.pools import Pools, writer_options
from dfd.cluster.profile import Profile
from dfd.cluster.ray_internals import without_cpu
from dfd.cluster.runtime import cluster_limits, plain_errors
from dfd.graph_folder import private_folder
from dfd_core.config import ExtractConfig
from dfd_core.model.fetch import local_model
from dfd_core.run.commit_log import CommitLog
from dfd_core.run.input_hashes import hash_inputs
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.worklist import Worklist
from dfd_core.schemas import SEGMENT_PICTURES, VIDEO_PLAN, face_crops, to_table
from dfd_core.stages.pictures import pictures_of
from dfd_core.stages.sandbox import Sandbox
from dfd_core.storage.address import Address

_PLAN_BLOCK_ROWS = 256
_CPUS_PER_WRITER = 8
_FACES_OF_A_TABLE = 16
_SOON_BYTES, _FEW_FILES_BYTES = 1 << 20, 64 << 20
_MANY_SEGMENTS = 5_000
_POOLS = Pools()


def build_plan(
    out: OutputFolder, config: ExtractConfig, *, num_videos: int, num_cpus: int, hash_inputs: bool = False
) -> Dataset:
    """Return the lazy dataset videos to open → plan; `write` of it commits each video's plan once."""
    rows = max(1, min(_PLAN_BLOCK_ROWS, num_videos // (_most_cpus(num_cpus) * 4)))
    _commit_by(out.plan_log)
    return _listed(out.open_videos, rows).map_batches(  # 1 video : 1 plan
        plan_block,
        batch_size=None,
        fn_kwargs={"config": config, "hashes": out.input_hashes if hash_inputs else None},
        **_ARROW,
    )


def build_score(
    out: OutputFolder,
    config: ExtractConfig,
    *,
    work: Worklist,
    model: str,
    precision: str,
    num_cpus: int,
    tally: Any,
    pools: Pools = _POOLS,
    raw: bool = False,
    keep_faces: int = 0,
    explain: bool = False,
    profile: Profile | None = None,
) -> Dataset:
    """Return the lazy dataset segments → results; `write` of it commits each segment's faces once."""
    actors = _actors(pools, num_cpus)
    score_rows = work.block_rows if "num_gpus" in actors else None  # Ray wants a number where there is a GPU
    with warnings.catch_warnings():
        # Ray 2.60 says that 2.64 will not take a scheduling strategy.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        crops = _segments(out, work).map_batches(  # 1 segment : 1 row of crops
            extract_block,
            batch_size=None,
            fn_kwargs={"config": config, "watcher": tally, "profile": profile},
            **_ARROW | pools.extract_options(),
        )
        return crops.map_batches(  # 1 segment : 1 result, pixels dropped
            ScoreBlock,
            batch_size=score_rows,
            fn_constructor_kwargs={
                "model": model,
                "precision": precision,
                "crop_px": config.crop_px,
                "tally": tally,
                "raw": raw,
                "batch_size": pools.batch_size,
                "keep_faces": keep_faces,
                "explain": explain,
            },
            **actors,
            batch_format="pyarrow",
            zero_copy_batch=True,
        )


def build_pictures(
    out: OutputFolder, config: ExtractConfig, *, work: Worklist, tally: Any, profile: Profile | None = None
) -> Dataset:
    """Return the lazy dataset segments → pictures of faces; `write` of it commits each segment's once."""
    return _segments(out, work).map_batches(  # 1 segment : 1 row of pictures
        extract_block,
        batch_size=None,
        fn_kwargs={"config": config, "tally": tally, "watcher": tally, "profile": profile},
        **_ARROW,
    )


def _segments(out: OutputFolder, work: Worklist) -> Dataset:
    _commit_by(out.segment_log)
    listed = _listed(work.address, work.block_rows)
    # A task's faces go on, and are committed, as soon as they are so many bytes. Each such block is two files of the log.
    # The setting is this dataset's alone: a training that follows in the process has its own.
    is_large = work.num_open > _MANY_SEGMENTS
    listed.context.target_max_block_size = _FEW_FILES_BYTES if is_large else _SOON_BYTES
    return listed


def _listed(address: Address, block_rows: int) -> Dataset:
    # One task reads it, bit by bit; by default Ray Data would cut each file into two hundred pieces first.
    listed = ray.data.read_parquet(address.path, filesystem=address.fs, num_cpus=0.1, override_num_blocks=1)
    # A task that cuts the list works until all its blocks are taken up. If each took a CPU, as by default, the tasks of a
    # long list would leave none for those that take the blocks up.
    return without_cpu(listed.repartition(target_num_rows_per_block=block_rows))


def write(dataset: Dataset, folder: Address, *, num_cpus: int) -> dict[str, float]:
    """Run `dataset` and append its rows to the Parquet files of `folder`, committing block by block.

    Returns:
        `write_s` and `write_cpu_s`, the worker seconds of writing and committing, and `spilled_mb`, what did not fit
        into the object store and went to the nodes' disks.
    """
    # A write takes no CPU of its own: it would wait for one behind every extraction that is already queued. So their
    # number must be bounded instead, for each is a process.
    writers = max(1, _most_cpus(num_cpus) // _CPUS_PER_WRITER)
    try:
        with plain_errors():
            dataset.write_parquet(
                folder.path,
                filesystem=folder.durable_fs,
                mode="append",
                write_page_checksum=True,
                ray_remote_args=writer_options(ray.cluster_resources()),
                concurrency=writers,
            )
            return _writing(dataset)
    finally:
        DataContext.get_current().checkpoint_config = None  # what this process does next has no such log


def _writing(dataset: Dataset) -> dict[str, float]:
    found = dataset.get_stats_summary()
    writes = [step for step in found.operators_stats if step.operator_name == "Write"]
    return {
        "write_s": sum(step.wall_time.sum for step in writes if step.wall_time),
        "write_cpu_s": sum(step.cpu_time.sum for step in writes if step.cpu_time),
        "spilled_mb": found.dataset_bytes_spilled / 1e6,
    }


_ARROW: dict[str, Any] = {"batch_format": "pyarrow", "zero_copy_batch": True, "num_cpus": 1}


def _most_cpus(num_cpus: int) -> int:
    """Return the CPUs that the cluster has or may get: work that is cut for fewer would leave the later ones idle."""
    return max(num_cpus, int(cluster_limits()["CPU"]))


class _NothingToSkip(CheckpointManager):
    """What is committed is left out of the lists that the pipelines read, where DuckDB does it in a second.

    Ray Data would read the whole log through a pipeline of its own and start actors that hold all identifiers.
    """

    def load_checkpoint(self, *_: Any, **__: Any) -> tuple[None, int]:
        return None, 0


def _commit_by(log: CommitLog) -> None:
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        log.id_column,
        log.checkpoint.path,
        delete_checkpoint_on_success=False,
        override_filesystem=log.checkpoint.durable_fs,
        checkpoint_manager_cls=_NothingToSkip,
    )


def _actors(pools: Pools, num_cpus: int) -> dict[str, Any]:
    """Return how the model is placed, and how many copies of it there may be."""
    limits = cluster_limits()
    fewest, most = pools.actor_range(num_cpus=num_cpus, max_cpus=limits["CPU"], max_gpus=limits["GPU"])
    compute = ActorPoolStrategy(min_size=fewest, max_size=most)
    return {"compute": compute, **pools.actor_options(limits["GPU"])}


# --- what runs in the workers -------------------------------------------------------------------------------------


def plan_block(requests: pa.Table, *, config: ExtractConfig, hashes: Address | None = None) -> pa.Table:
    """Return the plans of a block of videos, and keep the hashes of the files in `hashes` if it is given."""
    if hashes is not None:
        hash_inputs(requests, hashes)
    sandbox = _sandbox(config)
    plans = [sandbox.plan(row) for row in requests.to_pylist()]
    metrics.count_failures(plan["error_kind"] for plan in plans if plan["error_kind"])
    metrics.count_seconds({"plan": sum(plan["probe_s"] for plan in plans)})
    return to_table(plans, VIDEO_PLAN)


def extract_block(
    segments: pa.Table,
    *,
    config: ExtractConfig,
    tally: Any = None,
    watcher: Any = None,
    profile: Profile | None = None,
) -> Iterator[pa.Table]:
    """Yield the faces of a block of segments, some segments at a time, so that few are held.

    They are crops, or pictures where the configuration has an image format. Only a `tally` hears of them, and a
    `watcher` of how the process that decodes is confined. Segments that are runs of pictures (FACE_RUN) are read instead of decoded.
    """
    sandbox = _sandbox(config)
    rows = _faces_of(segments, sandbox)
    if config.image_format is None:
        tables = _tables(rows, face_crops(config.crop_px, pictures=config.pictures))
    else:  # of any size, so that no two segments' are held
        tables = (to_table([row], SEGMENT_PICTURES) for row in rows)
    with nullcontext() if profile is None else profile.of(sandbox):
        for faces in tables:
            if watcher is not None and (found := sandbox.confinement_now()):
                watcher.confined.remote(found)
                watcher = None
            if tally is not None:
                _report(tally, faces)
            yield faces


def _faces_of(segments: pa.Table, sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    """Yield the row of each segment, in any order."""
    if "table" in segments.column_names:
        return (sandbox.crop(run, pictures) for run, pictures in pictures_of(segments.to_pylist()))
    return (sandbox.extract(segment) for segment in segments.to_pylist())


def _tables(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield `rows` as tables of some faces: Ray Data takes milliseconds for each."""
    held: list[dict[str, Any]] = []
    num_faces = 0
    for row in rows:
        held.append(row)
        num_faces += len(row["faces"])
        if num_faces >= _FACES_OF_A_TABLE:
            yield to_table(held, schema)
            held, num_faces = [], 0
    if held:
        yield to_table(held, schema)


def _report(tally: Any, segments: pa.Table) -> None:
    names = ("segment_id", "plan_key", "error_kind")
    segment_ids, plan_keys, error_kinds = (segments.column(name).to_pylist() for name in names)
    num_faces = pc.list_value_length(segments.column("faces")).to_pylist()
    tally.add.remote(segment_ids, plan_keys, num_faces, error_kinds, _seconds(segments))


def _seconds(segments: pa.Table) -> dict[str, float]:
    """Return the worker seconds that went into `segments`, by stage."""
    steps = segments.column("extract_seconds").combine_chunks()
    names = [step.name for step in steps.type]
    seconds = {name.removesuffix("_s"): pc.sum(steps.field(name)).as_py() or 0.0 for name in names}
    for name in {"queue_s", "infer_s"} & set(segments.column_names):
        seconds[name.removesuffix("_s")] = pc.sum(segments.column(name)).as_py() or 0.0
    return seconds


@lru_cache(maxsize=1)
def _sandbox(config: ExtractConfig) -> Sandbox:
    """Return this worker process's sandbox, whose child goes from one task to the next."""
    return Sandbox(config)


class ScoreBlock:
    """A model, loaded once, that scores block after block and reports what is done."""

    def __init__(
        self,
        model: str,
        precision: str,
        crop_px: int,
        tally: Any,
        raw: bool = False,
        batch_size: int = 64,
        keep_faces: int = 0,
        explain: bool = False,
    ) -> None:
        """Load the model; a failure ends the job with its message. Only a `tally` hears of what is scored."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow leaves Keras alone until it is needed
        from dfd_core.model.predictor import load_predictor
        from dfd_core.model.source import resolve_model
        from dfd_core.stages.scoring import score_segments

        source = resolve_model(local_model(model), raw=raw)
        self._predict = load_predictor(
            source, precision=precision, batch_size=batch_size, cache_dir=private_folder()
        )
        self._score = partial(
            score_segments, predict=self._predict, crop_px=crop_px, keep_faces=keep_faces, explain=explain
        )
        self._tally = tally
        self._free_since_s = time.monotonic()
        if tally is not None:
            tally.loaded.remote(self._predict.precision, self._predict.device)

    def __call__(self, segments: pa.Table) -> pa.Table:
        """Return the results of a block of segments."""
        began_s = time.monotonic()
        results = self._score(segments)
        if self._tally is not None:
            _report(self._tally, results)
            ended_s = time.monotonic()
            self._tally.scored.remote(ended_s - began_s, ended_s - self._free_since_s)
            self._free_since_s = ended_s
        return results
