"""Compare two finished runs of the same videos: comparison.json for programs, comparison.html for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dfd.cluster.runtime import LOG
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.evaluation.compare import Comparison, compare, read_run
from dfd_core.evaluation.compare_report import COMPARISON_FILENAME, PAGE_FILENAME, write_comparison
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.sources.videos import read_videos
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores-old/ scores-new/ --out comparison/
dfd NAME scores-old/ scores-new/ --labels manifest.parquet --out comparison/
"""
_SHOWN = ("roc_auc", "balanced_accuracy", "eer", "log_loss", "ece")


def run(a: str, b: str, labels: str | None, out: str, bootstrap: Bootstrap) -> None:
    """Write the comparison of the runs `a` and `b` into `out`.

    Raises:
        RequestError: The runs or the labels cannot be used, or the report cannot be written.
    """
    first, second = read_run(a), read_run(b)
    comparison = compare(first, second, read_videos(labels).table if labels else None, bootstrap=bootstrap)
    for note in comparison.warnings:
        LOG.warning("%s", note.text)
    write_comparison(comparison, out, a=first, b=second, labels=labels)
    print_result(_summary(comparison, out), lambda: print_summary(comparison, out))


def _summary(comparison: Comparison, out: str) -> dict[str, Any]:
    return {
        "out": as_text(out),
        "num_videos": dict(zip(("a", "b", "both"), comparison.num_videos, strict=True)),
        "num_labelled": comparison.num_labelled,
        "num_flips": len(comparison.flips),
        "changes": {name: asdict(comparison.changes[name]) for name in _SHOWN if comparison.changes},
    }


def print_summary(comparison: Comparison, out: str) -> None:
    """Print the main differences, the flips, and where the rest is."""
    num_a, num_b, num_both = comparison.num_videos
    click.echo(f"\nvideos: {num_a:,} in A, {num_b:,} in B, {num_both:,} in both")
    if comparison.changes:
        click.echo(f"{comparison.num_labelled:,} of them with a label and decided by both; B − A:")
    for name in _SHOWN if comparison.changes else ():
        found = comparison.changes[name].difference
        value = "-" if found.value is None else f"{found.value:+.3f}"
        interval = "" if found.low is None else f"{found.low:+.3f} to {found.high:+.3f}"
        click.echo(f"  {DEFINITIONS[name].title:<24} {value:>7}  {interval}")
    click.echo(f"verdicts that differ: {len(comparison.flips):,}")
    for flip in comparison.flips[:5]:
        change = f"{flip.p_fake_a:.3f} to {flip.p_fake_b:.3f}"
        click.echo(f"  {as_text(flip.video_id)}: {flip.verdict_a} to {flip.verdict_b} ({change})")
    folder = as_text(out.rstrip("/"))
    click.echo(f"comparison: {folder}/{PAGE_FILENAME}  {folder}/{COMPARISON_FILENAME}")


@command(EXAMPLES)
@click.argument("a")
@click.argument("b")
@click.option("--labels", help="A manifest with uri and label, and group where known; joined by video_id.  [default: the labels that the runs carry, if any]")  # fmt: skip
@click.option("--out", required=True, help="Folder for comparison.json and comparison.html.")
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples for each interval.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the resamples.")
def main(a: str, b: str, labels: str | None, out: str, resamples: int, seed: int) -> None:
    """Compare A and B, the output folders of two runs of the same videos: two models, two samplings, two months.

    With labels, every figure's difference with its 95 % interval, both runs resampled by the same groups. With labels
    or without: the videos whose verdict differs, and how scores and quality measures shifted.
    """
    exit_with(lambda: run(a, b, labels, out, Bootstrap(resamples, seed)))
