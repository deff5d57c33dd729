"""One attempt at an archive: the output folder and its record, the plan, the segments."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from dfd.archive.early_plan import EarlyPlan
from dfd.archive.folder import is_taken_over, take_folder
from dfd.cluster.lazy import LazyCluster
from dfd.cluster.runtime import LOG, is_local, since_start_s
from dfd.exit_status import is_interrupt
from dfd_core.config import ExtractConfig, Limits
from dfd_core.errors import OutputError
from dfd_core.run import worklist
from dfd_core.run.compaction import compact
from dfd_core.run.counts import Counts
from dfd_core.run.hashes import remove_hashes, write_hashes
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.repair import repair_folder
from dfd_core.run.run_record import RunRecord
from dfd_core.sources.source import Source, commit_plans
from dfd_core.stages.sandbox import Sandbox
from dfd_core.storage.files import exists
from dfd_core.storage.tables import write_table
from dfd_core.storage.text import one_line


class ArchiveRequest(Protocol):
    """What every such job is asked.

    Attributes:
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        limits: What one video may cost.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
        stall_s: Seconds in which nothing finishes after which the log says what the run waits for.
        repair: Mend a damaged log before anything else.
        hash: Read every video whole for its SHA-256.
    """

    source: str
    out: str
    max_failed: float
    limits: Limits
    retry_kinds: frozenset[str]
    overwrite: bool
    repair: bool
    hash: bool
    profile: bool
    stall_s: float
    address: str | None
    verbose: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run into an output folder, which is this process's as long as it lasts."""

    out: OutputFolder
    record: RunRecord
    cluster: LazyCluster
    request: ArchiveRequest

    def plan(self, source: Source, config: ExtractConfig) -> Source:
        """Make the plan of the videos of `source` that have none, and return the source with this run's plan keys."""
        source = source.renamed(self._begin(source.table).column("plan_key"))
        commit_plans(self.out, source.plans)
        self._open_videos(config)
        return source

    def _open_videos(self, config: ExtractConfig) -> None:
        videos = worklist.unplanned(self.out)
        if not videos.num_rows:
            return
        LOG.info("Opening %s videos", f"{videos.num_rows:,}")
        is_early = is_local(self.request.address) and not self.request.hash
        with EarlyPlan(self.out, config, videos) if is_early else nullcontext():
            self.cluster.start()
        videos = worklist.unplanned(self.out)
        num_videos = videos.num_rows
        if not num_videos:
            return
        write_table(self.out.open_videos, videos)
        del videos  # the tasks read the file
        from dfd.archive import stages

        num_cpus = self.cluster.num_cpus
        dataset = stages.build_plan(
            self.out, config, num_videos=num_videos, num_cpus=num_cpus, hash_inputs=self.request.hash
        )
        stages.write(dataset, self.out.plan_log.data, num_cpus=num_cpus)
        compact(self.out.plan_log)

    def _begin(self, table: pa.Table) -> pa.Table:
        """Check the log, and write and return the manifest that this run reads."""
        self.out.plan_log.settle()
        self.out.segment_log.settle()
        if self.request.repair:
            self._repair()
        self.out.plan_log.refuse_damage()
        self.out.segment_log.refuse_damage()
        # A run that was killed while it planned has not merged its log.
        compact(self.out.plan_log)
        table = worklist.with_attempts(
            self.out, table, retry_kinds=self.request.retry_kinds, derivation=self.record.num_derivations
        )
        worklist.write_manifest(self.out, table)
        return table

    def _repair(self) -> None:
        done = repair_folder(self.out)
        self.record.values["attempts"][-1]["repaired"] = {
            "files": len(done.files),
            "rows_kept": done.num_kept,
        }
        if done.files:
            LOG.warning("%d damaged files are now in %s", len(done.files), self.out.quarantine)

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
        with Progress(work, stall_s=self.request.stall_s, waits_for=waits_for) as progress:
            record = Profile(self.out.profile.uri, progress.tally) if self.request.profile else None
            dataset = build(num_cpus=num_cpus, tally=progress.tally, profile=record)
            writing = stages.write(dataset, self.out.segment_log.data, num_cpus=num_cpus)
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
        if progress.sandbox is not None:
            self.record.values["sandbox"] = progress.sandbox
        if progress.profile is not None:
            tell_profile(self.out.profile.uri, *progress.profile)
        return progress.model


def _refuse_weak_sandbox(limits: Limits) -> None:
    """Try the sandbox on this machine, before anything is written; the workers try it again on theirs.

    Raises:
        SandboxError: It is less than was asked for.
    """
    with closing(Sandbox(ExtractConfig(limits=limits))) as sandbox:
        sandbox.confinement()


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
    if request.limits.sandbox == "require":
        _refuse_weak_sandbox(request.limits)
    out = OutputFolder.at(request.out)
    with ExitStack() as stack:
        record = take_folder(
            stack, out, configuration, overwrite=request.overwrite, repair=request.repair, model=model
        )
        outcome_before = record.values["outcome"] if record.num_derivations else None
        record.begin(videos=num_videos, retried=sorted(request.retry_kinds))
        remove_hashes(out)
        record.write(out)
        try:
            counts = work(
                Attempt(out, record, LazyCluster(stack, request.address, verbose=request.verbose), request)
            )
        except BaseException as error:
            outcome = "interrupted" if is_interrupt(error) else "broken"
            record.end(outcome, wall_s=round(time.monotonic() - started_s, 1), error=one_line(error))
            if not is_taken_over():  # the record is the other run's then
                with suppress(
                    OutputError
                ):  # on a full disk this fails too, and the first error is the one to tell
                    record.write(out)
            raise
        if counts is None:
            record.end("estimated", wall_s=round(time.monotonic() - started_s, 1))
            record.values["outcome"] = outcome_before or "estimated"  # of the tables, which are as they were
            record.write(out)
            if exists(out.videos):
                write_hashes(out, model)
            return None, 0
        too_many = counts.videos["failed"] > request.max_failed * counts.num_videos
        outcome = "too_many_failed" if too_many else "complete"
        record.end(outcome, wall_s=round(time.monotonic() - started_s, 1))
        record.write(out)
        write_hashes(out, model)
    return counts, int(too_many)
