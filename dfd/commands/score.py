"""Score an archive: SOURCE, videos or pictures of faces → videos/, faces/ and run.json."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import pyarrow as pa

from dfd.archive.folder import source_name
from dfd.archive.run import Attempt, run_attempt
from dfd.archive.summary import print_summary, tell_failures, tell_source
from dfd.cluster.pools import Pools, pool_options, take_pools
from dfd.cluster.runtime import LOG
from dfd.commands.options import archive_options, request_fields, take_limits
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.answers.aggregate import finish
from dfd_core.answers.pictures import num_maps
from dfd_core.answers.verdicts import VerdictRule
from dfd_core.config import AGGREGATIONS, PRECISIONS, SAMPLINGS, Aggregation, ExtractConfig, Limits, Sampling
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
from dfd_core.sources.source import Source, Wanted
from dfd_core.stages.keeping import PICTURE_BYTES
from dfd_core.stages.occlusion import GRID
from dfd_core.storage.uri import is_remote

EXAMPLES = """
dfd NAME clip.mp4
dfd NAME videos/ --out scores/
dfd NAME videos/ --model bundle/ --out scores/
dfd NAME 'videos/**/*.mp4' --model bundle/ --out scores/ --sampling interval:0.5
dfd NAME manifest.csv --model untrained:mobilenet_v3_small --out smoke/
dfd NAME videos/ --model bundle/ --out scores/ --retry-failed=timeout,crashed
dfd NAME videos/ --model bundle/ --out scores/ --estimate
dfd NAME faces/ --model bundle/ --out scores/
ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
    python jobs/score.py s3://bucket/archive --model s3://bucket/bundle --out s3://bucket/scores
"""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One call of the job, checked as far as can be without opening anything.

    Attributes:
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
        stall_s: Seconds in which nothing finishes after which the log says what the run waits for.
        repair: Mend a damaged log before anything else.
        detect_max_side_px: Longer side of the frame that the detector sees, pixels; None for frames as they are.
    """

    source: str
    model: str
    out: str
    sampling: str | None = None
    segment_s: float = 600.0
    precision: str = "auto"
    raw: bool = False
    aggregation: Aggregation = Aggregation()  # noqa: RUF009 - frozen
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    max_failed: float = 0.5
    retry_kinds: frozenset[str] = frozenset()
    detect_max_side_px: int | None = None
    keep_faces: int = 6
    explain: bool = False
    overwrite: bool = False
    repair: bool = False
    profile: bool = False
    stall_s: float = 300.0
    estimate: bool = False
    allow_http: bool = False
    address: str | None = None
    verbose: bool = False
    pools: Pools = Pools()  # noqa: RUF009 - frozen

    def extract_config(self, card: ModelCard) -> ExtractConfig:
        """Return what decides which crops leave a video; the sampling is the card's unless given."""
        return ExtractConfig(
            sampling=Sampling.parse(self.sampling or card.sampling),
            segment_s=self.segment_s,
            crop_px=card.input_size,
            margin=card.margin,
            limits=self.limits,
            detect_max_side_px=self.detect_max_side_px,
            pictures=self.keep_faces > 0,
        )

    def wanted(self, card: ModelCard) -> Wanted:
        """Return how the faces of the source are to be made."""
        sampling = Sampling.parse(self.sampling) if self.sampling else None
        return Wanted(card.margin, sampling, self.detect_max_side_px)

    def configuration(self, card: ModelCard, source: Source) -> dict[str, Any]:
        """Return what two runs into the same folder must have in common."""
        return {
            "source": source_name(self.source),
            "source_kind": source.kind,
            "model_id": card.model_id,
            "precision": self.precision,
            **({"raw": True} if self.raw else {}),
            **({"calibration": card.calibration} if card.calibration else {}),
            **card.meaning,
            **source.extraction(self.extract_config(card)),
        }


def run(request: ScoreRequest) -> int:
    """Run the job and return its exit status.

    Raises:
        RequestError: The request is unusable.
    """
    if request.estimate and (request.overwrite or request.repair or request.retry_kinds):
        raise RequestError(
            "--estimate changes no results: it goes with neither --overwrite nor --repair nor --retry-failed"
        )
    card = resolve_model(local_model(request.model), raw=request.raw).card
    config = request.extract_config(card)
    source = read_source(request.source, allow_http=request.allow_http)
    if request.estimate and source.runs is not None:
        raise RequestError(
            "--estimate is for videos; of pictures every 1,000 take about as long as the first"
        )
    source.refuse_other(request.wanted(card))
    tell_source(source, request.source, f"model {_named(request.model, card)}")
    if not card.trained:
        LOG.warning(
            "The model %s is UNTRAINED: its scores are noise, good for a smoke run only", card.model_id
        )

    if request.keep_faces and is_remote(request.out):
        most_gb = source.table.num_rows * request.keep_faces * PICTURE_BYTES / 1e9
        LOG.info(
            "pictures/ keeps up to %d faces of each video, %.2g GB or less; --keep-faces 0 keeps none",
            request.keep_faces,
            most_gb,
        )
    if request.explain and not request.keep_faces:
        raise RequestError("--explain is for kept faces: it does not go with --keep-faces 0")

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


@command(EXAMPLES)
@click.argument("source")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="default for the detector that ships, a bundle folder, a .keras file, or untrained:BACKBONE for a smoke run.",
)
@click.option(
    "--out",
    help="The output folder; the same command again does only what is missing.  [default: none, for one video]",
)
@click.option("--sampling", help=f"{SAMPLINGS}.  [default: the bundle's, else stride]")
@click.option(
    "--segment-s", default=600.0, show_default=True, help="Longest piece of a video that one worker takes, s."
)
@click.option(
    "--aggregation",
    default="worst-track",
    show_default=True,
    help=f"How a video's faces become one number: {AGGREGATIONS}.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True, help="What the model computes in; auto: float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32.")  # fmt: skip
@click.option("--raw", is_flag=True, help="p_fake as the model gives it, without the bundle's calibration.")
@click.option("--keep-faces", type=click.IntRange(0, 100), default=6, show_default=True, metavar="K", help="Pictures of faces that a video keeps in pictures/, the most and the least suspicious of each track; 0 for none. Each takes about 15 kB.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Add to each kept picture which parts move the score; each costs as much as 49 faces. It is no proof.")  # fmt: skip
@pool_options
@click.option("--estimate", is_flag=True, help="Open the videos, time a sample of their segments, and only say what the run will cost. Not for pictures.")  # fmt: skip
@archive_options
def main(**flags: Any) -> None:
    """Score the videos of SOURCE: a video, a folder, a glob, or a manifest (.csv, .parquet, .jsonl).

    SOURCE may also be pictures of faces, of which no video is opened: the output folder of `dfd faces`, or
    Parquet files with one picture a row.

    With --out OUT it writes videos/ (one row for every video, whatever happened), faces/ (one row for every face) and run.json.
    Without, SOURCE is one video, which is scored without Ray: prints its row and its most suspicious frames.

    Exit status: 0 every video has an outcome; 1 more than --max-failed of them failed; 2 the request is unusable;
    130 interrupted, and the same command resumes.
    """
    exit_with(lambda: _status(flags), verbose=flags["verbose"])


def _status(flags: dict[str, Any]) -> int:
    if flags["out"] is not None:
        return run(_request(flags))
    from dfd.one_video import score_one

    options = ("model", "sampling", "precision", "raw", "detect_max_side_px", "allow_http")
    aggregation, limits = Aggregation.parse(flags["aggregation"]), take_limits(dict(flags))
    chosen = {name: flags[name] for name in options}
    return score_one(flags["source"], flags, aggregation=aggregation, limits=limits, **chosen)


def _request(flags: dict[str, Any]) -> ScoreRequest:
    pools = take_pools(flags)
    fields = request_fields(flags)
    fields["aggregation"] = Aggregation.parse(fields["aggregation"])
    return ScoreRequest(**fields, pools=pools)
