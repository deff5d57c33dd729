"""Make a page to look at a finished run: a folder that opens from disk, without a server and without the network."""

from __future__ import annotations

from dataclasses import asdict

import click

from dfd.cluster.runtime import LOG
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.review.page import INDEX, MOST_VIDEOS, PageCounts, write_page
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores/ --out page/
dfd NAME s3://bucket/scores --out page/ --limit 2000
"""


def run(scores: str, out: str, limit: int) -> None:
    """Write the page of `scores` into `out`.

    Raises:
        OutputError: The scores cannot be read, or the page cannot be written.
    """
    counts = write_page(scores, out, limit=limit)
    if counts.num_shown < counts.num_videos:
        LOG.warning(
            "The page holds the %s most suspicious of %s videos; --limit changes that",
            f"{counts.num_shown:,}",
            f"{counts.num_videos:,}",
        )
    page = f"{as_text(out.rstrip('/'))}/{INDEX}"
    print_result({"page": page, **asdict(counts)}, lambda: _print(counts, page))


def _print(counts: PageCounts, page: str) -> None:
    videos = f"{counts.num_shown:,} video{'' if counts.num_shown == 1 else 's'}"
    pictures = f"{counts.num_pictures:,} picture{'' if counts.num_pictures == 1 else 's'} of faces"
    click.echo(f"{videos}, {pictures}")
    click.echo(f"page: {page}")


@command(EXAMPLES)
@click.argument("scores")
@click.option("--out", required=True, help="Folder for the page: absent, empty, or an earlier page, which is replaced.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=MOST_VIDEOS, show_default=True, help="The most videos on the page, the most suspicious first.")  # fmt: skip
def main(scores: str, out: str, limit: int) -> None:
    """Make a page to look at SCORES, the output folder of a finished run.

    The page shows which videos, which person and which seconds, plays local videos, and takes your decisions: real,
    fake or unsure, with a comment. It downloads them as a manifest for `dfd finetune` and `dfd evaluate`.

    It holds the names of the videos and pictures of faces: keep it where you keep the videos.
    """
    exit_with(lambda: run(scores, out, limit))
