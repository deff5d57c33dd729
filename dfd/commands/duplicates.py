"""Find the copies of one clip in a finished run, by the hashes of its frames; no video is opened."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click
import pyarrow as pa

from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.answers.duplicates import find_duplicates
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores/
dfd NAME scores/ --out duplicates.parquet
"""
_MOST_GROUPS, _MOST_VIDEOS = 20, 10


def run(scores: str, out: str | None) -> None:
    """Find the groups of copies in `scores`, print them, and write them to `out` if it is given.

    Raises:
        OutputError: The scores cannot be used, or the table cannot be written.
    """
    folder = OutputFolder.at(scores)
    folder.refuse_missing()
    found = find_duplicates(folder)
    if out:
        write_table(Address.parse(out), found)
    print_result(_summary(found, out), lambda: print_groups(found, out))


def _summary(found: pa.Table, out: str | None) -> dict[str, Any]:
    groups = {row["group_id"]: row for row in found.to_pylist()}
    disagreeing = sum(row["verdicts_disagree"] for row in groups.values())
    return {
        "out": None if out is None else as_text(out),
        "videos": found.num_rows,
        "groups": len(groups),
        "groups_that_disagree": disagreeing,
    }


def print_groups(found: pa.Table, out: str | None) -> None:
    """Print the first groups and how many there are."""
    summary = _summary(found, out)
    click.echo(
        f"{summary['groups']:,} groups of copies with {summary['videos']:,} videos; "
        f"in {summary['groups_that_disagree']:,} groups the verdicts disagree"
    )
    for number, rows in groupby(found.to_pylist(), key=lambda row: row["group_id"]):
        if number >= _MOST_GROUPS:
            break
        _print_group(list(rows))
    if out:
        click.echo(f"\nall of them: {as_text(out)}")


def _print_group(rows: list[dict[str, Any]]) -> None:
    remark = "  verdicts disagree" if rows[0]["verdicts_disagree"] else ""
    click.echo(f"\n{len(rows)} copies{remark}")
    for row in rows[:_MOST_VIDEOS]:
        score = "-" if row["p_fake"] is None else f"{row['p_fake']:.3f}"
        click.echo(f"  {score:>6} {row['verdict'] or row['status']:<10} {as_text(row['video_id'])}")
    if len(rows) > _MOST_VIDEOS:
        click.echo(f"  and {len(rows) - _MOST_VIDEOS} more")


@command(EXAMPLES)
@click.argument("scores")
@click.option("--out", help="A Parquet file for the groups, one row a video.  [default: print only]")
def main(scores: str, out: str | None) -> None:
    """Find the copies of one clip among the videos of SCORES, the output folder of `dfd score`.

    Copies are found by what their frames look like: re-encoded, resized, letterboxed, turned and mirrored ones too. A manipulated copy
    counts as one: groups whose verdicts disagree come first. Two takes of one scene from a camera that does not move look alike and
    are taken for copies.
    """
    exit_with(lambda: run(scores, out))
