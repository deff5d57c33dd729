"""What the jobs that work through an archive share: the folder and its record, the plan, the segments, exit and options."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, Protocol

import click
import duckdb
import pyarrow as pa

from dfd.archive.early_plan import EarlyPlan
from dfd.cluster.runtime import LOG, is_local, ray_cluster, since_start_s, start_logging
from dfd_core.config import ExtractConfig, Limits, identity
from dfd_core.errors import ERROR_KINDS, DfdError, OutputError, RequestError
from dfd_core.run import commit_log, worklist
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder, write_table
from dfd_core.run.run_record import RunRecord
from dfd_core.schemas import VIDEO_PLAN
from dfd_core.sources import videos
from dfd_core.sources.pictures.runs import PictureSource, commit_plans
from dfd_core.storage import address as storage

LIMITS = Limits()


class ArchiveRequest(Protocol):
    """What every such job is asked.

    Attributes:
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
    """

    source: str
    out: str
    max_failed: float
    retry_kinds: frozenset[str]
    overwrite: bool
    profile: bool
    address: str | None
    verbose: bool


class Cluster:
    """Starts Ray when it is first needed: a run with nothing to do never does."""

    def __init__(self, stack: ExitStack, request: ArchiveRequest) -> None:
        self._stack = stack
        self._request = request
        self._started = False
        self.ready_s = 0.0
        """Seconds from the start of the command until Ray was there; 0.0 before."""

    def start(self) -> None:
        """Start or connect, once."""
        if not self._started:
            self._stack.enter_context(ray_cluster(self._request.address, verbose=self._request.verbose))
            self._started = True
            self.ready_s = since_start_s()

    @property
    def num_cpus(self) -> int:
        """CPUs of the cluster; a cluster of this machine need not be there for it."""
        from dfd.cluster.runtime import cluster_cpus

        if not is_local(self._request.address):
            self.start()
        return cluster_cpus() if self._started else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run into an output folder, which is this process's as long as it lasts."""

    out: OutputFolder
    record: RunRecord
    cluster: Cluster
    request: ArchiveRequest

    def plan(self, table: pa.Table, config: ExtractConfig) -> None:
        """Make the plan of the videos of `table` (MANIFEST and own columns) that have none."""
        self._begin(table)
        videos = worklist.unplanned(self.out)
        if not videos.num_rows:
            return
        LOG.info("Opening %s videos", f"{videos.num_rows:,}")
        with EarlyPlan(self.out, config, videos) if is_local(self.request.address) else nullcontext():
            self.cluster.start()
        videos = worklist.unplanned(self.out)
        num_videos = videos.num_rows
        if not num_videos:
            return
        write_table(self.out.open_videos, videos)
        del videos  # the tasks read the file
        from dfd.archive import stages

        num_cpus = self.cluster.num_cpus
        dataset = stages.build_plan(self.out, config, num_videos=num_videos, num_cpus=num_cpus)
        stages.write(dataset, self.out.plans, num_cpus=num_cpus)
        commit_log.compact(self.out.checkpoint("plan"), self.out.plans, VIDEO_PLAN)

    def plan_pictures(self, source: PictureSource) -> pa.Table:
        """Take over the plan of a source of pictures, and return its runs (`sources.pictures.runs.RUNS`)."""
        source = source.renamed(self._begin(source.table).column("plan_key"))
        commit_plans(self.out, source)
        return source.runs

    def _begin(self, table: pa.Table) -> pa.Table:
        """Check the log, and write and return the manifest that this run reads."""
        commit_log.settle(self.out.checkpoint("plan"), self.out.plans)
        commit_log.settle(self.out.checkpoint("segments"), self.out.results)
        commit_log.refuse_damage(self.out.checkpoint("plan"), self.out.plans, "plan_key")
        commit_log.refuse_damage(self.out.checkpoint("segments"), self.out.results, "segment_id")
        # A run that was killed while it planned has not merged its log.
        commit_log.compact(self.out.checkpoint("plan"), self.out.plans, VIDEO_PLAN)
        table = worklist.with_attempts(
            self.out, table, retry_kinds=self.request.retry_kinds, derivation=self.record.num_derivations
        )
        worklist.write_manifest(self.out, table)
        return table

    def run_segments(
        self, work: worklist.Worklist, build: Callable[..., Any], *, waits_for: str = "the first faces"
    ) -> dict[str, str] | None:
        """Do the segments that are left and return how the model ran, if there was one.

        Args:
            work: What is left to do.
            build: Returns the lazy dataset segments → results; called with the keywords `num_cpus`, `tally` and `profile`.
            waits_for: What the user waits for until the first segment is done.
        """
        if not work.num_open:
            return None
        self.cluster.start()
        from dfd.archive import stages
        from dfd.archive.progress import Progress
        from dfd.cluster.profile import Profile, tell_profile

        footage = f", {work.footage_s / 3600:,.1f} hours of footage" if work.footage_s else ""
        LOG.info(
            "%s segments to do, %s done before%s", f"{work.num_open:,}", f"{work.num_committed:,}", footage
        )
        started_s = time.monotonic()
        start_s = {"ray": self.cluster.ready_s, "planned": since_start_s()}
        num_cpus = self.cluster.num_cpus
        with Progress(work, waits_for=waits_for) as progress:
            record = Profile(self.out.profile, progress.tally) if self.request.profile else None
            dataset = build(num_cpus=num_cpus, tally=progress.tally, profile=record)
            writing = stages.write(dataset, self.out.results, num_cpus=num_cpus)
        wall_s = time.monotonic() - started_s
        self.record.throughput(
            work,
            wall_s=wall_s,
            num_cpus=num_cpus,
            extract_s=progress.extract_s,
            score_busy_share=progress.busy_share,
            writing=writing,
            start_s=start_s | {name: since_start_s(at) for name, at in progress.first_at.items()},
        )
        if progress.profile is not None:
            tell_profile(self.out.profile, *progress.profile)
        return progress.model


def run_attempt(
    request: ArchiveRequest,
    configuration: dict[str, Any],
    work: Callable[[Attempt], Counts | None],
    *,
    num_videos: int,
    model: dict[str, Any] | None = None,
) -> tuple[Counts | None, int]:
    """Run `work` on the request's output folder and return what the folder then holds, and the exit status.

    Args:
        request: What was asked.
        configuration: What two runs into the same folder must have in common.
        work: Does it all; an exception is noted in `run.json` and goes on. Returns None for an estimate only.
        num_videos: Rows of the manifest.
        model: What `run.json` says of the model, if there is one.

    Raises:
        RequestError: The folder or the cluster cannot be used.
    """
    started_s = time.monotonic()
    out = OutputFolder(request.out)
    with ExitStack() as stack:
        record = take_folder(stack, out, configuration, overwrite=request.overwrite, model=model)
        outcome_before = record.values["outcome"] if record.num_derivations else None
        record.begin(videos=num_videos, retried=sorted(request.retry_kinds))
        record.write(out)
        try:
            counts = work(Attempt(out, record, Cluster(stack, request), request))
        except BaseException as error:
            outcome = "interrupted" if is_interrupt(error) else "broken"
            record.end(outcome, wall_s=round(time.monotonic() - started_s, 1), error=storage.one_line(error))
            if not _taken_over.is_set():  # the record is the other run's then
                with suppress(
                    OutputError
                ):  # on a full disk this fails too, and the first error is the one to tell
                    record.write(out)
            raise
        if counts is None:
            record.end("estimated", wall_s=round(time.monotonic() - started_s, 1))
            record.values["outcome"] = outcome_before or "estimated"  # of the tables, which are as they were
            record.write(out)
            return None, 0
        too_many = counts.videos["failed"] > request.max_failed * counts.num_videos
        outcome = "too_many_failed" if too_many else "complete"
        record.end(outcome, wall_s=round(time.monotonic() - started_s, 1))
        record.write(out)
    return counts, int(too_many)


def take_folder(
    stack: ExitStack,
    out: OutputFolder,
    configuration: dict[str, Any],
    *,
    overwrite: bool,
    model: dict[str, Any] | None = None,
) -> RunRecord:
    """Return the folder's record, new or of the same configuration; the folder is this process's until `stack` ends.

    Raises:
        OutputError: Another run has it, it holds something else or was made otherwise, or it cannot be written.
    """
    out.refuse_foreign()
    lock = out.locked(on_lost=_give_way)  # held from here on
    stack.callback(lock.release)
    if overwrite and storage.exists(out.run_json):
        lock.release()
        LOG.info("What was there is now in %s", out.move_aside())
        stack.callback(out.locked(on_lost=_give_way).release)
    record = RunRecord.read(out)
    if record:
        record.refuse_other(configuration)
        record.values |= {
            "configuration": configuration,
            "configuration_id": identity(configuration),
        }  # limits may differ
        return record
    return RunRecord.new(configuration, model)


_taken_over = threading.Event()


def _give_way() -> None:
    _taken_over.set()
    LOG.error("Another run has taken the output folder over while this one was silent; this one ends")
    _thread.interrupt_main()


def source_name(source: str) -> str:
    """Return the address of a source as `run.json` names it: absolute, and text."""
    return storage.as_text(
        source if storage.is_remote(source) else os.path.abspath(storage.local_path(source))
    )


def tell_source(source: videos.VideoSource, address: str, facts: str) -> None:
    """Log what the source holds and what of it is left out; `facts` ends the line."""
    LOG.info("%s videos in %s, %s", f"{source.table.num_rows:,}", storage.as_text(address), facts)
    if source.skipped:
        LOG.info("%s files are not named like a video and are left out", f"{sum(source.skipped.values()):,}")
    for reason in source.unlisted:
        LOG.warning("Left out: %s", reason)


def tell_failures(counts: Counts, request: ArchiveRequest) -> None:
    """Log that too many videos failed."""
    failed = counts.videos["failed"]
    LOG.error(
        "%d of %d videos failed: more than --max-failed %g", failed, counts.num_videos, request.max_failed
    )


# --- the command --------------------------------------------------------------------------------------------------

_OPTIONS = (
    click.option("--detect-max-side", "detect_max_side_px", type=int, metavar="PX", help="Longer side of the frame that the face detector sees: it is faster on a frame scaled down, and finds faces of about 80 pixels of that.  [default: frames as they are]"),
    click.option("--max-failed", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of failed videos above which the exit status is 1."),
    click.option("--retry-failed", metavar="[=KINDS]", help="Try the videos with an error again, all or only those of these kinds: --retry-failed=timeout,crashed."),
    click.option("--overwrite", is_flag=True, help="Start anew; the old results are moved aside first."),
    click.option("--max-pixels", type=int, default=LIMITS.max_pixels, show_default=True, help="Largest frame, pixels."),
    click.option("--max-duration-s", type=float, default=LIMITS.max_duration_s, show_default=True, help="Longest video, s."),
    click.option("--timeout-factor", type=float, default=LIMITS.timeout_factor, show_default=True, help="Seconds that a segment may take for each second of its duration, if that is more than the floor."),
    click.option("--timeout-floor-s", type=float, default=LIMITS.timeout_floor_s, show_default=True, help="Seconds that every segment, however short, may take, and the opening of a video."),
    click.option("--memory-mb", type=int, default=LIMITS.memory_mb, show_default=True, help="Resident memory of each decoding process, MB."),
    click.option("--profile", is_flag=True, help="Record where one extraction worker's time goes, for speedscope: OUT/profile.speedscope.json."),
    click.option("--address", help="A Ray cluster's address.  [default: RAY_ADDRESS, else this machine]"),
    click.option("--verbose", is_flag=True, help="Show what Ray and TensorFlow say."),
)  # fmt: skip


def archive_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every such job has."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def request_fields(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the options as the fields of a request: the limits as one, the kinds to retry as a set.

    Raises:
        RequestError: A limit is out of range, or a kind of error is unknown.
    """
    flags = dict(flags)
    limits = Limits(**{limit.name: flags.pop(limit.name) for limit in fields(Limits)})
    kinds = frozenset(filter(None, (flags.pop("retry_failed") or "").split(",")))
    if "all" in kinds:
        kinds = frozenset(ERROR_KINDS)
    if unknown := kinds - frozenset(ERROR_KINDS):
        raise RequestError(
            f"Expected error kinds of {', '.join(ERROR_KINDS)}. Received: {', '.join(sorted(unknown))}"
        )
    return {**flags, "limits": limits, "retry_kinds": kinds}


def exit_with(job: Callable[[], int | None], *, verbose: bool = False) -> None:
    """Run `job` and end the process with its exit status, 0 for None; an expected failure is one line of the log."""
    start_logging(verbose=verbose)
    _interrupted.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        sys.exit(job() or 0)
    except (Exception, KeyboardInterrupt) as error:
        if is_interrupt(error):
            LOG.error("Interrupted. The same command resumes.")
            sys.exit(130)
        if isinstance(error, DfdError):
            LOG.error("%s", error)
            sys.exit(2)
        if isinstance(error, OSError):  # a storage that fails between two of our own questions
            LOG.error("The storage failed: %s", storage.reason(error))
            sys.exit(2)
        if isinstance(error, duckdb.Error):  # of memory or of disk: its queries are ours
            LOG.error("The tables cannot be joined: %s", storage.one_line(error))
            sys.exit(2)
        raise


_interrupted = threading.Event()


def is_interrupt(error: BaseException) -> bool:
    """Return whether `error` is what an interrupt became: DuckDB makes other exceptions of it."""
    return isinstance(error, KeyboardInterrupt) or _interrupted.is_set()


def _interrupt(*_: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt
