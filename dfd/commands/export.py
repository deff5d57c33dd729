"""Write the tables of a finished run for other programs; no video is opened."""

from __future__ import annotations

import click

from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.answers.export import FORMATS, export
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores/ --format csv --out tables/
dfd NAME scores/ --format fiftyone --out fiftyone/
dfd NAME scores/ --format label-studio --out label-studio/
"""


def run(scores: str, kind: str, out: str) -> None:
    """Write the tables of `scores` to the folder `out`.

    Raises:
        OutputError: The scores cannot be used, or the folder cannot be written.
    """
    written = export(OutputFolder.at(scores), kind, out)
    told = ", ".join(f"{count:,} {name}" for name, count in written.items())
    print_result({"out": as_text(out), **written}, lambda: click.echo(f"{told} in {as_text(out)}"))


@command(EXAMPLES)
@click.argument("scores")
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True, help="csv and jsonl: a file for each table. fiftyone: a video labels dataset. label-studio: tasks with predictions.")  # fmt: skip
@click.option("--out", required=True, help="A new or empty local folder.")
def main(scores: str, kind: str, out: str) -> None:
    """Write the tables of SCORES, the output folder of `dfd score`, in the format of another program.

    docs/export.md says how each program loads them.
    """
    exit_with(lambda: run(scores, kind, out))
