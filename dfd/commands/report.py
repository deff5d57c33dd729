"""Write the report of one video to hand over: one HTML file that loads nothing and prints well."""

from __future__ import annotations

import click

from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.review.case import write_case
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME interviews/a.mp4 --scores scores/ --out case.html
"""


def run(video_id: str, scores: str, out: str) -> None:
    """Write the report of the video `video_id` of `scores` to `out`.

    Raises:
        OutputError: The scores cannot be read, hold no such video, or the report cannot be written.
    """
    write_case(scores, video_id, out)
    print_result({"report": as_text(out)}, lambda: click.echo(f"report: {as_text(out)}"))


@command(EXAMPLES)
@click.argument("video_id")
@click.option("--scores", required=True, help="The output folder of the run that scored the video.")
@click.option("--out", required=True, help="The HTML file to write.")
def main(video_id: str, scores: str, out: str) -> None:
    """Write the report of the video VIDEO_ID, as it is called in the table of videos.

    It says what was asked and found, by track and span, with pictures; how good the evidence is; the method, the model card and the
    errors that the card states; hashes, versions and times. Print it from a browser for a PDF.
    """
    exit_with(lambda: run(video_id, scores, out))
