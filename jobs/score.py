"""Score an archive: SOURCE → videos/, faces/ and run.json."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import click

from jobs.runtime import LOG, quiet_libraries, ray_cluster, start_logging

quiet_libraries(verbose="--verbose" in sys.argv)

from dfd_core import commit_log, manifest, storage, worklist  # noqa: E402
from dfd_core.aggregate import Counts, finish  # noqa: E402
from dfd_core.bundle import ModelCard, resolve_model  # noqa: E402
from dfd_core.config import PRECISIONS, Aggregation, ExtractConfig, Limits, Sampling, as_json  # noqa: E402
from dfd_core.errors import ERROR_KINDS, DfdError, OutputError, RequestError  # noqa: E402
from dfd_core.output import OutputFolder  # noqa: E402
from dfd_core.run_record import RunRecord  # noqa: E402
from jobs.summary import print_summary  # noqa: E402

LIMITS = Limits()

EXAMPLES = """\b
Examples:
  python jobs/score.py videos/ --model bundle/ --out scores/
  python jobs/score.py 'videos/**/*.mp4' --model bundle/ --out scores/ --sampling interval:0.5
  python jobs/score.py manifest.csv --model untrained:mobilenet_v3_small --out smoke/
  python jobs/score.py videos/ --model bundle/ --out scores/ --retry-failed=timeout,crashed
  ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
      python jobs/score.py s3://bucket/archive --model s3://bucket/bundle --out s3://bucket/scores
"""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One call of the job, checked as far as can be without opening anything.

    Attributes:
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
    """

    source: str
    model: str
    out: str
    sampling: str | None = None
    segment_s: float = 600.0
    precision: str = "auto"
    aggregation: Aggregation = Aggregation()  # noqa: RUF009 - frozen
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    max_failed: float = 0.5
    retry_kinds: frozenset[str] = frozenset()
    overwrite: bool = False
    address: str | None = None
    verbose: bool = False

    def extract_config(self, card: ModelCard) -> ExtractConfig:
        """Return what decides which crops leave a video; the sampling is the card's unless given."""
        return ExtractConfig(
            sampling=Sampling.parse(self.sampling or card.sampling),
            segment_s=self.segment_s,
            crop_px=card.input_size,
            margin=card.margin,
            limits=self.limits,
        )

    def configuration(self, card: ModelCard) -> dict[str, Any]:
        """Return what two runs into the same folder must have in common."""
        source = (
            self.source
            if storage.is_remote(self.source)
            else os.path.abspath(storage.local_path(self.source))
        )
        return {
            "source": storage.as_text(source),
            "model_id": card.model_id,
            "precision": self.precision,
            **as_json(self.extract_config(card)),
        }


def run(request: ScoreRequest) -> int:
    """Run the job and return its exit status.

    Raises:
        RequestError: The request is unusable.
    """
    started_s = time.monotonic()
    card = resolve_model(storage.local_copy(request.model)).card
    configuration = request.configuration(card)
    config = request.extract_config(card)
    source = manifest.read_source(request.source)
    _tell_source(source, request, card)
    out = OutputFolder(request.out)
    with ExitStack() as stack:
        record = _prepare(stack, out, request, card, configuration)
        record.begin(videos=source.table.num_rows, retried=sorted(request.retry_kinds))
        record.write(out)
        try:
            counts = _score(stack, out, request, config, card, source, record)
        except BaseException as error:
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "broken"
            record.end(outcome, wall_s=round(time.monotonic() - started_s, 1), error=storage.one_line(error))
            with suppress(
                OutputError
            ):  # on a full disk this fails too, and the first error is the one to tell
                record.write(out)
            raise
        failed = counts.videos["failed"]
        too_many = failed > request.max_failed * counts.num_videos
        record.end(
            "too_many_failed" if too_many else "complete", wall_s=round(time.monotonic() - started_s, 1)
        )
        record.write(out)
    print_summary(out, counts, card)
    if too_many:
        LOG.error(
            "%d of %d videos failed: more than --max-failed %g", failed, counts.num_videos, request.max_failed
        )
    return 1 if too_many else 0


def _tell_source(source: manifest.Source, request: ScoreRequest, card: ModelCard) -> None:
    LOG.info(
        "%s videos in %s, model %s",
        f"{source.table.num_rows:,}",
        storage.as_text(request.source),
        card.model_id,
    )
    if source.skipped:
        LOG.info("%s files are not named like a video and are left out", f"{sum(source.skipped.values()):,}")
    for reason in source.unlisted:
        LOG.warning("A folder cannot be listed: %s", reason)
    if not card.trained:
        LOG.warning(
            "The model %s is UNTRAINED: its scores are noise, good for a smoke run only", card.model_id
        )


def _prepare(
    stack: ExitStack, out: OutputFolder, request: ScoreRequest, card: ModelCard, configuration: dict[str, Any]
) -> RunRecord:
    """Return the folder's record, new or of the same configuration; the folder is this process's until `stack` ends."""
    out.refuse_foreign()
    lock = stack.enter_context(out.locked())
    record = RunRecord.read(out)
    if record and request.overwrite:
        lock.release()
        LOG.info("The old results are now in %s", out.move_aside())
        stack.enter_context(out.locked())
        record = None
    if record:
        record.refuse_other(configuration)
        return record
    model = {
        "model_id": card.model_id,
        "trained": card.trained,
        "threshold": card.threshold,
        "sha256": card.sha256,
    }
    return RunRecord.new(configuration, model)


def _score(
    stack: ExitStack,
    out: OutputFolder,
    request: ScoreRequest,
    config: ExtractConfig,
    card: ModelCard,
    source: manifest.Source,
    record: RunRecord,
) -> Counts:
    for stage in ("plan", "segments"):
        commit_log.settle(out.checkpoint(stage))
    commit_log.refuse_damage(out.checkpoint("plan"), out.plans, "plan_key")
    commit_log.refuse_damage(out.checkpoint("segments"), out.results, "segment_id")
    table = worklist.with_attempts(out, source.table, retry_kinds=request.retry_kinds)
    worklist.write_manifest(out, table)
    cluster = _Cluster(stack, request)
    _plan(out, config, cluster)
    work = worklist.list_segments(out, num_cpus=cluster.num_cpus)
    if work.num_open:
        record.values["model"] |= _run_segments(out, request, config, work, cluster, record) or {}
    counts = finish(out, aggregation=request.aggregation, threshold=card.threshold, model_id=card.model_id)
    record.tables(counts, request.aggregation)
    return counts


class _Cluster:
    """Starts Ray when it is first needed: a run with nothing to do never does."""

    def __init__(self, stack: ExitStack, request: ScoreRequest) -> None:
        self._stack = stack
        self._request = request
        self._started = False

    def start(self) -> None:
        """Start or connect, once."""
        if not self._started:
            self._stack.enter_context(ray_cluster(self._request.address, verbose=self._request.verbose))
            self._started = True

    @property
    def num_cpus(self) -> int:
        """CPUs of the cluster; of this machine where no cluster was needed."""
        from jobs.runtime import cluster_cpus

        return cluster_cpus() if self._started else os.cpu_count() or 1


def _plan(out: OutputFolder, config: ExtractConfig, cluster: _Cluster) -> None:
    todo = worklist.num_unplanned(out)
    if not todo:
        return
    cluster.start()
    from jobs import stages

    LOG.info("Opening %s videos", f"{todo:,}")
    dataset = stages.build_plan(out, config, num_videos=todo, num_cpus=cluster.num_cpus)
    stages.write(dataset, out.plans, num_cpus=cluster.num_cpus)


def _run_segments(
    out: OutputFolder,
    request: ScoreRequest,
    config: ExtractConfig,
    work: worklist.Worklist,
    cluster: _Cluster,
    record: RunRecord,
) -> dict[str, str] | None:
    cluster.start()
    from jobs import stages
    from jobs.progress import Progress
    from jobs.runtime import cluster_gpus

    LOG.info(
        "%s segments to do, %s done before, %.1f hours of footage",
        f"{work.num_open:,}",
        f"{work.num_committed:,}",
        work.footage_s / 3600,
    )
    started_s = time.monotonic()
    with Progress(work) as progress:
        dataset = stages.build_score(
            out,
            config,
            model=request.model,
            precision=request.precision,
            block_rows=work.block_rows,
            num_cpus=cluster.num_cpus,
            num_gpus=cluster_gpus(),
            tally=progress.tally,
        )
        stages.write(dataset, out.results, num_cpus=cluster.num_cpus)
    record.throughput(work, wall_s=time.monotonic() - started_s, num_cpus=cluster.num_cpus)
    return progress.model


@click.command(epilog=EXAMPLES)
@click.argument("source")
@click.option(
    "--model", required=True, help="A bundle folder, a .keras file, or untrained:BACKBONE for a smoke run."
)
@click.option(
    "--out", required=True, help="The output folder; the same command again does only what is missing."
)
@click.option("--sampling", help="stride, interval:S or uniform:N.  [default: the bundle's, else stride]")
@click.option(
    "--segment-s", default=600.0, show_default=True, help="Longest piece of a video that one worker takes, s."
)
@click.option(
    "--aggregation",
    default="mean",
    show_default=True,
    help="mean, median, max or topk:K over a video's frames.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--max-failed", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of failed videos above which the exit status is 1.")  # fmt: skip
@click.option("--retry-failed", metavar="[=KINDS]", help="Try the videos with an error again, all or only those of these kinds, comma-separated.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Start anew; the old results are moved aside first.")
@click.option("--max-pixels", type=int, default=LIMITS.max_pixels, show_default=True, help="Largest frame, pixels.")  # fmt: skip
@click.option("--max-duration-s", type=float, default=LIMITS.max_duration_s, show_default=True, help="Longest video, s.")  # fmt: skip
@click.option("--timeout-factor", type=float, default=LIMITS.timeout_factor, show_default=True, help="Seconds that a segment may take for each second of its duration.")  # fmt: skip
@click.option("--timeout-floor-s", type=float, default=LIMITS.timeout_floor_s, show_default=True, help="Seconds that any segment may take.")  # fmt: skip
@click.option("--memory-mb", type=int, default=LIMITS.memory_mb, show_default=True, help="Resident memory of each decoding process, MB.")  # fmt: skip
@click.option("--address", help="A Ray cluster's address.  [default: RAY_ADDRESS, else this machine]")
@click.option("--verbose", is_flag=True, help="Show what Ray and TensorFlow say.")
def main(**flags: Any) -> None:
    """Score the videos of SOURCE: a video, a folder, a glob, or a manifest (.csv, .parquet, .jsonl).

    Writes videos/ (one row for every video, whatever happened), faces/ (one row for every face) and run.json.

    Exit status: 0 every video has an outcome; 1 more than --max-failed of them failed; 2 the request is unusable;
    130 interrupted, and the same command resumes.
    """
    start_logging(verbose=flags["verbose"])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(run(_request(flags)))
    except KeyboardInterrupt:
        LOG.error("Interrupted. The same command resumes.")
        sys.exit(130)
    except DfdError as error:
        LOG.error("%s", error)
        sys.exit(2)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _request(flags: dict[str, Any]) -> ScoreRequest:
    limits = Limits(**{limit.name: flags.pop(limit.name) for limit in fields(Limits)})
    kinds = frozenset(filter(None, (flags.pop("retry_failed") or "").split(",")))
    if "all" in kinds:
        kinds = frozenset(ERROR_KINDS)
    if unknown := kinds - frozenset(ERROR_KINDS):
        raise RequestError(
            f"Expected error kinds of {', '.join(ERROR_KINDS)}. Received: {', '.join(sorted(unknown))}"
        )
    aggregation = Aggregation.parse(flags.pop("aggregation"))
    return replace(
        ScoreRequest("", "", ""), **flags, limits=limits, retry_kinds=kinds, aggregation=aggregation
    )


if __name__ == "__main__":
    # click would take the argument after a bare --retry-failed for its value
    main(
        args=["--retry-failed=all" if arg == "--retry-failed" else arg for arg in sys.argv[1:]],
        prog_name="jobs/score.py",
    )
