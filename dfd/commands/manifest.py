"""Read the labels of a dataset as it was downloaded, and write them as a manifest that the other jobs take."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from dfd.cluster.runtime import LOG
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.errors import ManifestError
from dfd_core.sources.layouts.manifest import check_out, manifest_of, write_manifest, write_report
from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.scan import scan
from dfd_core.sources.layouts.tree import KINDS, LAYOUTS, Dataset
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME /data/Celeb-DF-v2 --out /data/Celeb-DF-v2/manifest.parquet
dfd NAME /data --layout auto --out all.csv --report disagreements.json
dfd NAME crops/ --layout folders --out crops/manifest.jsonl
"""
_NAMED = 3


def run(root: str, layout: str, out: str, *, report: str | None, keep_unlabelled: bool) -> None:
    """Write the manifest of the dataset at `root`, and what does not add up in it.

    Raises:
        RequestError: There is no such dataset, no video of it can be used, or a file cannot be written.
    """
    check_out(out)
    tree = scan(root)
    LOG.info("%s files below %s", f"{len(tree.paths):,}", as_text(root))
    dataset = read_tree(tree, layout, keep_unlabelled=keep_unlabelled)
    log_disagreements(dataset, report)
    if report:
        write_report(dataset, report)
    if not any(video.label for video in dataset.videos):
        raise ManifestError(
            f"No video of {as_text(root)!r} has a label that can be believed; nothing was written"
        )
    write_manifest(manifest_of(dataset, root, out), out)
    print_result(_summary(dataset, out), lambda: print_summary(dataset, out))


def log_disagreements(dataset: Dataset, report: str | None) -> None:
    """Log how many disagreements of each kind there are, with the first few names."""
    for kind, meaning in KINDS.items():
        found = [as_text(item.path) for item in dataset.disagreements if item.kind == kind]
        if found:
            more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
            LOG.warning(
                "%s: %s (%s): %s%s", kind, f"{len(found):,}", meaning, ", ".join(found[:_NAMED]), more
            )
    if dataset.disagreements:
        where = f"{report} lists them" if report else "--report FILE lists them"
        LOG.warning("%s disagreements in all; %s", f"{len(dataset.disagreements):,}", where)


def _summary(dataset: Dataset, out: str) -> dict[str, Any]:
    counts = Counter(video.label or "unlabelled" for video in dataset.videos)
    return {
        "manifest": as_text(out),
        "videos": len(dataset.videos),
        **{label: counts[label] for label in ("real", "fake", "unlabelled")},
        "groups": len({video.group for video in dataset.videos if video.group}),
        "disagreements": Counter(item.kind for item in dataset.disagreements),
    }


def print_summary(dataset: Dataset, out: str) -> None:
    """Print the videos by what is known of their making, and how large the groups are."""
    numbers = ("real", "fake", "unlabelled", "train", "val", "test", "groups")
    rows = [("dataset", "method", "compression", *numbers)]
    keys = {(video.dataset, video.method, video.compression) for video in dataset.videos}
    for key in sorted(keys, key=lambda key: [name or "" for name in key]):
        videos = [v for v in dataset.videos if (v.dataset, v.method, v.compression) == key]
        counts = Counter(video.label or "unlabelled" for video in videos)
        counts += Counter(video.split for video in videos if video.split)
        counts["groups"] = len({video.group for video in videos if video.group})
        rows.append((*(as_text(name or "-") for name in key), *(f"{counts[name]:,}" for name in numbers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        click.echo("  ".join([*names, *(f"{row[i]:>{widths[i]}}" for i in range(3, len(row)))]))
    groups = Counter(video.group for video in dataset.videos if video.group)
    name, largest = groups.most_common(1)[0]
    click.echo(
        f"\n{len(dataset.videos):,} videos in {len(groups):,} groups; the largest, {as_text(name)}, "
        f"holds {largest:,} of them\nmanifest: {as_text(out)}"
    )


@command(EXAMPLES)
@click.argument("root")
@click.option(
    "--layout",
    type=click.Choice(["auto", *LAYOUTS]),
    default="auto",
    show_default=True,
    help="How ROOT is laid out; auto takes every layout that it finds.",
)
@click.option("--out", required=True, help="The manifest: .parquet, .csv or .jsonl.")
@click.option("--report", help="A JSON file for the full list of disagreements.")
@click.option(
    "--keep-unlabelled", is_flag=True, help="Keep videos without a usable label, with a null label."
)
def main(root: str, layout: str, out: str, report: str | None, keep_unlabelled: bool) -> None:
    """Write a manifest of the dataset below ROOT: a label, a group and what else is known of each video.

    Fakes and the videos that they were made from are in one group, which no split should separate. What does not
    add up is counted and named, never guessed.
    """
    exit_with(lambda: run(root, layout, out, report=report, keep_unlabelled=keep_unlabelled))
