"""Derive the tables of an output folder again, with another aggregation; no video is opened."""

from __future__ import annotations

from contextlib import ExitStack

import click

from dfd.archive.summary import print_summary
from dfd.commands.shape import command
from dfd.exit_status import exit_with
from dfd_core.answers.aggregate import finish
from dfd_core.config import AGGREGATIONS, Aggregation
from dfd_core.errors import OutputError
from dfd_core.model.card import ModelCard
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord

EXAMPLES = """
dfd NAME scores/ --aggregation max
dfd NAME scores/ --aggregation topk:5 --threshold 0.7
dfd NAME scores/ --aggregation worst-track
"""


def run(folder: str, aggregation: Aggregation, threshold: float | None) -> None:
    """Write the tables of `folder` again.

    Raises:
        OutputError: The folder is no finished run, or is in use.
    """
    out = OutputFolder.at(folder)
    with ExitStack() as stack:
        out.refuse_missing()
        stack.callback(out.locked().release)
        record = RunRecord.read(out)
        if record is None:
            raise OutputError(f"{folder} holds no run.json: it is not the output of jobs/score.py")
        if "model" not in record.values:
            raise OutputError(f"{folder} holds faces that were not scored: jobs/score.py scores them")
        model = record.values["model"]
        if not isinstance(model, dict) or not {"model_id", "threshold", "trained"} <= model.keys():
            raise OutputError(f"{folder} holds no scores: it is not the output of jobs/score.py")
        threshold = model["threshold"] if threshold is None else threshold
        counts = finish(out, aggregation=aggregation, threshold=threshold, model_id=model["model_id"])
        counts = record.tables(counts, aggregation)
        record.values["threshold"] = threshold
        record.write(out)
    print_summary(out, counts, ModelCard(model["model_id"], trained=model["trained"]))


@command(EXAMPLES)
@click.argument("out")
@click.option(
    "--aggregation",
    default="worst-track",
    show_default=True,
    help=f"How a video's faces become one number: {AGGREGATIONS}.",
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="p_fake from which the verdict is fake.  [default: the model's]")  # fmt: skip
def main(out: str, aggregation: str, threshold: float | None) -> None:
    """Derive the tables of OUT, the output folder of `dfd score`, again. No video is opened."""
    exit_with(lambda: run(out, Aggregation.parse(aggregation), threshold))
