"""Judge a scoring run against labels: metrics.json for programs, report.html for people; no video is opened."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dfd.cluster.runtime import LOG
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.answers.verdicts import REASONS
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.evaluation import LEVELS, Evaluation, evaluate
from dfd_core.evaluation.intervals import Bootstrap, Estimate
from dfd_core.evaluation.metrics_json import METRICS_FILENAME
from dfd_core.evaluation.report import REPORT_FILENAME, write_report
from dfd_core.evaluation.thresholds import ThresholdRule
from dfd_core.evaluation.truth import join_labels, read_scores
from dfd_core.evaluation.verdict_counts import VERDICTS
from dfd_core.sources.manifest import LABELS
from dfd_core.sources.videos import read_videos
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores/ --out report/
dfd NAME scores/ --labels manifest.parquet --out report/
dfd NAME scores/ --labels test.csv --out report/ --threshold fpr:0.01
"""
_SHOWN = ("roc_auc", "balanced_accuracy", "eer", "tpr_at_fpr_0.01", "ece")


def run(scores: str, labels: str | None, out: str, rule: ThresholdRule | None, bootstrap: Bootstrap) -> None:
    """Write the report of `scores` against `labels` into `out`.

    Raises:
        RequestError: The scores or labels cannot be used, or the report cannot be written.
    """
    tables = read_scores(scores)
    truth = join_labels(tables, read_videos(labels, allow_http=True).table if labels else None)
    LOG.info(
        "%s labelled videos, %s faces; %s resamples of each part",
        f"{len(truth.videos):,}",
        f"{len(tables.faces):,}",
        f"{bootstrap.resamples:,}",
    )
    evaluation = evaluate(tables, truth, rule=rule, bootstrap=bootstrap)
    for note in evaluation.warnings:
        LOG.warning("%s", note.text)
    write_report(evaluation, out, scores=scores, labels=labels)
    print_result(_summary(evaluation, out), lambda: print_summary(evaluation, out))


def _summary(evaluation: Evaluation, out: str) -> dict[str, Any]:
    levels = {level: evaluation.whole(level).measured for level in LEVELS}
    return {
        "out": as_text(out),
        **{
            level: {
                "num_real": measured.num_real,
                "num_fake": measured.num_fake,
                **{name: asdict(measured.figures[name]) for name in _SHOWN},
            }
            for level, measured in levels.items()
        },
        "num_undecided": evaluation.whole("video").coverage.num_undecided,
    }


def print_summary(evaluation: Evaluation, out: str) -> None:
    """Print the main figures of both levels, the undecided videos, and where the rest is."""
    for level in LEVELS:
        measured = evaluation.whole(level).measured
        click.echo(f"\n{level}s: {measured.num_real:,} real, {measured.num_fake:,} fake")
        for name in _SHOWN:
            found = measured.figures[name]
            value = "-" if found.value is None else f"{found.value:.3f}"
            interval = "" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
            reason = found.notes[0].text if found.notes and found.low is None else ""
            click.echo(f"  {DEFINITIONS[name].title:<24} {value:>6}  {interval or reason}")
    _print_parts(evaluation)
    _print_verdicts(evaluation)
    coverage = evaluation.whole("video").coverage
    click.echo(f"\nundecided videos, in no figure: {coverage.num_undecided:,}")
    folder = as_text(out.rstrip("/"))
    click.echo(f"report: {folder}/{REPORT_FILENAME}  {folder}/{METRICS_FILENAME}")


def _print_parts(evaluation: Evaluation) -> None:
    """Print AUC and equal error rate of each dataset, method and compression, with intervals."""
    parts = [part for part in evaluation.parts if part.by is not None]
    if not parts:
        return
    width = max(len(f"{part.by} {part.value}") for part in parts)
    click.echo(f"\n{'':{width + 6}}  {'real':>6} {'fake':>6}  AUC                    EER")
    for part in parts:
        measured = part.measured
        auc, eer = (_with_interval(measured.figures[name]) for name in ("roc_auc", "eer"))
        name = f"{part.by} {part.value}"
        click.echo(
            f"{name:<{width}} {part.level:<5}  {measured.num_real:>6,} {measured.num_fake:>6,}  {auc:<21}  {eer}"
        )


def _with_interval(found: Estimate) -> str:
    if found.value is None:
        return "-"
    return f"{found.value:.3f}" + ("" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})")


def _print_verdicts(evaluation: Evaluation) -> None:
    """Print how many reals and fakes got which verdict."""
    if not evaluation.verdicts:
        return
    names = [f"{part.by} {part.value}" if part.by else "all videos" for part in evaluation.verdicts]
    width = max(map(len, names))
    click.echo(f"\n{'verdicts: real, uncertain, fake':<{width}}  {'reals':>20}  {'fakes':>20}")
    for name, part in zip(names, evaluation.verdicts, strict=True):
        cells = [" ".join(f"{part.counts[label][verdict]:>6,}" for verdict in VERDICTS) for label in LABELS]
        click.echo(f"{name:<{width}}  {cells[0]:>20}  {cells[1]:>20}")
    if reasons := evaluation.verdicts[0].reasons:
        click.echo(
            "uncertain: " + ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in reasons.items())
        )


@command(EXAMPLES)
@click.argument("scores")
@click.option("--labels", help="A manifest with uri and label, with video_id where the scored one had it, and with group, method, dataset, compression where known. Joined by video_id; only its videos count.  [default: the labels that SCORES carries]")  # fmt: skip
@click.option("--out", required=True, help="Folder for metrics.json and report.html.")
@click.option("--threshold", help="0 to 1, or chosen on these videos: eer, youden, fpr:X.  [default: the run's]")  # fmt: skip
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples for each interval.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the resamples.")
def main(scores: str, labels: str | None, out: str, threshold: str | None, resamples: int, seed: int) -> None:
    """Judge SCORES, the output folder of `dfd score`, against labels.

    Faces and videos, all of them and by method, dataset and compression, each figure with its 95 % bootstrap interval
    over groups. Videos without a score are counted, never judged.
    """

    def job() -> None:
        rule = ThresholdRule.parse(threshold) if threshold else None
        run(scores, labels, out, rule, Bootstrap(resamples, seed))

    exit_with(job)
