"""Score an archive into its output folder: plan, segments, tables; or only estimate what that costs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dfd.archive.run import Attempt, run_attempt
from dfd.archive.summary import print_summary, tell_failures, tell_source
from dfd.cluster.runtime import LOG
from dfd.commands.shape import print_result
from dfd_core.answers.aggregate import finish
from dfd_core.answers.pictures import num_maps
from dfd_core.answers.verdicts import VerdictRule
from dfd_core.config import ExtractConfig
from dfd_core.errors import RequestError
from dfd_core.model.card import ModelCard
from dfd_core.model.fetch import local_model
from dfd_core.model.source import DEFAULT_MODEL, resolve_model
from dfd_core.run import worklist
from dfd_core.run.compaction import compact
from dfd_core.run.counts import Counts
from dfd_core.run.estimate import compared, spent
from dfd_core.run.output_folder import OutputFolder
from dfd_core.sources.read import read_source
from dfd_core.stages.keeping import PICTURE_BYTES
from dfd_core.stages.occlusion import GRID
from dfd_core.storage.uri import is_remote

if TYPE_CHECKING:
    from dfd.commands.score import ScoreRequest


def run(request: ScoreRequest) -> int:
    """Run the job and return its exit status.

    Raises:
        RequestError: The request is unusable.
    """
    _refuse_contradictions(request)
    card = resolve_model(local_model(request.model), raw=request.raw).card
    config = request.extract_config(card)
    source = read_source(request.source, allow_http=request.allow_http)
    if request.estimate and source.runs is not None:
        raise RequestError(
            "--estimate is for videos; of pictures every 1,000 take about as long as the first"
        )
    source.refuse_other(request.wanted(card))
    tell_source(source, request.source, f"model {_named(request.model, card)}")
    _tell_request(request, card, num_videos=source.table.num_rows)

    def work(attempt: Attempt) -> Counts | None:
        planned = attempt.plan(source, config)
        if request.estimate:
            return _estimate(attempt, request, config)
        return _score(attempt, request, card, config, planned.runs)

    counts, status = run_attempt(
        request,
        request.configuration(card, source),
        work,
        num_videos=source.table.num_rows,
        model={
            "model": request.model,
            "model_id": card.model_id,
            "trained": card.trained,
            "threshold": card.threshold,
            "sha256": card.sha256,
            "card": card.as_json(),
        },
    )
    if counts is None:
        return 0
    print_summary(OutputFolder.at(request.out), counts, card)
    if status:
        tell_failures(counts, request.max_failed)
    return status


def _refuse_contradictions(request: ScoreRequest) -> None:
    if request.estimate and (request.overwrite or request.repair or request.retry_kinds):
        raise RequestError(
            "--estimate changes no results: it goes with neither --overwrite nor --repair nor --retry-failed"
        )
    if request.explain and not request.keep_faces:
        raise RequestError("--explain is for kept faces: it does not go with --keep-faces 0")


def _tell_request(request: ScoreRequest, card: ModelCard, *, num_videos: int) -> None:
    """Log what the user may not expect of the request: an untrained model, pictures in a remote folder."""
    if not card.trained:
        LOG.warning(
            "The model %s is UNTRAINED: its scores are noise, good for a smoke run only", card.model_id
        )
    if request.keep_faces and is_remote(request.out):
        most_gb = num_videos * request.keep_faces * PICTURE_BYTES / 1e9
        LOG.info(
            "pictures/ keeps up to %d faces of each video, %.2g GB or less; --keep-faces 0 keeps none",
            request.keep_faces,
            most_gb,
        )


def _named(model: str, card: ModelCard) -> str:
    """Return the model's id, and that it is the detector that ships where it is."""
    return f"{card.model_id} (the detector that ships)" if model == DEFAULT_MODEL else card.model_id


def _estimate(attempt: Attempt, request: ScoreRequest, config: ExtractConfig) -> None:
    """Print what the segments that are left will cost, and note it in `run.json`."""
    work = worklist.list_segments(attempt.out, num_cpus=attempt.cluster.num_cpus)
    if not work.num_open:
        LOG.info("Nothing is left to do")
        return
    attempt.cluster.start()
    _refuse_beyond_machine(request, attempt)
    from dfd.archive import estimate, stages
    from dfd.cluster.runtime import cluster_gpus

    found = estimate.measure(
        attempt.out,
        extract=partial(stages.extract_block, config=config),
        scorer=partial(
            stages.ScoreBlock,
            request.model,
            request.precision,
            config.crop_px,
            None,
            raw=request.raw,
            batch_size=request.pools.batch_size,
            keep_faces=request.keep_faces,
            explain=request.explain,
        ),
        placement=estimate.Placement.of(
            request.pools, num_cpus=attempt.cluster.num_cpus, num_gpus=cluster_gpus()
        ),
        block_rows=work.block_rows,
    )
    attempt.record.values["estimate"] = {
        "segments": work.num_open,
        **found.as_json(),
        "before": spent(attempt.out),
    }
    print_result(attempt.record.values["estimate"], lambda: print(estimate.tell(found, work)))


def _score(
    attempt: Attempt, request: ScoreRequest, card: ModelCard, config: ExtractConfig, runs: pa.Table | None
) -> Counts:
    out, cluster, record = attempt.out, attempt.cluster, attempt.record
    work = worklist.list_segments(out, num_cpus=cluster.num_cpus, runs=runs)

    def build(**placed: Any) -> Any:
        from dfd.archive import stages

        _refuse_beyond_machine(request, attempt)
        return stages.build_score(
            out,
            config,
            model=request.model,
            precision=request.precision,
            raw=request.raw,
            keep_faces=request.keep_faces,
            explain=request.explain,
            work=work,
            pools=request.pools,
            **placed,
        )

    record.values["model"] |= attempt.run_segments(work, build, waits_for="the model") or {}
    record.values["model"]["threshold"] = (
        card.threshold
    )  # of the verdicts below, whatever an earlier attempt's was
    compact(out.segment_log)
    record.values["keep_faces"] = request.keep_faces
    counts = finish(
        out,
        aggregation=request.aggregation,
        threshold=card.threshold,
        model_id=card.model_id,
        rule=VerdictRule.of_card(card),
        keep_faces=request.keep_faces,
    )
    counts = record.tables(counts, request.aggregation)
    if request.explain:
        _tell_maps(num_maps(out), counts)
    if predicted := record.values.get("estimate"):
        predicted |= compared(predicted, spent(out))
    return counts


def _tell_maps(num_maps: int, counts: Counts) -> None:
    """Say what the occlusion maps cost: each of their scores costs as much as that of a face."""
    extra = num_maps * GRID * GRID
    share = extra / max(1, extra + counts.num_faces)
    LOG.info(
        "%s occlusion maps took %s scores, %.0f %% of the model's time: about %.1f s of %.1f s",
        f"{num_maps:,}",
        f"{extra:,}",
        100 * share,
        share * counts.stage_s["infer"],
        counts.stage_s["infer"],
    )


def _refuse_beyond_machine(request: ScoreRequest, attempt: Attempt) -> None:
    """Raise RequestError if the pools want what a cluster of this machine never has: Ray would wait for it."""
    from dfd.cluster.runtime import cluster_gpus, is_local

    if is_local(request.address):
        request.pools.refuse_beyond(num_cpus=attempt.cluster.num_cpus, num_gpus=cluster_gpus())
