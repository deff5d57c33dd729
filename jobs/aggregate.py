"""Derive faces/ and videos/ of an output folder again, with another aggregation; no video is opened."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from dfd_core.aggregate import finish
from dfd_core.bundle import ModelCard
from dfd_core.config import Aggregation
from dfd_core.errors import DfdError, OutputError
from dfd_core.output import OutputFolder
from dfd_core.run_record import RunRecord
from jobs.runtime import LOG, start_logging
from jobs.summary import print_summary

EXAMPLES = """\b
Examples:
  python jobs/aggregate.py scores/ --aggregation max
  python jobs/aggregate.py scores/ --aggregation topk:5 --threshold 0.7
"""


def run(folder: str, aggregation: Aggregation, threshold: float | None) -> None:
    """Write the tables of `folder` again.

    Raises:
        OutputError: The folder is no finished run, or is in use.
    """
    out = OutputFolder(folder)
    with ExitStack() as stack:
        out.refuse_missing()
        stack.callback(out.locked().release)
        record = RunRecord.read(out)
        if record is None:
            raise OutputError(f"{folder} holds no run.json: it is not the output of jobs/score.py")
        if "model" not in record.values:
            raise OutputError(f"{folder} holds faces that were not scored: jobs/score.py scores them")
        model = record.values["model"]
        threshold = model["threshold"] if threshold is None else threshold
        counts = finish(out, aggregation=aggregation, threshold=threshold, model_id=model["model_id"])
        counts = record.tables(counts, aggregation)
        record.values["threshold"] = threshold
        record.write(out)
    print_summary(out, counts, ModelCard(model["model_id"], trained=model["trained"]))


@click.command(epilog=EXAMPLES)
@click.argument("out")
@click.option(
    "--aggregation",
    default="mean",
    show_default=True,
    help="mean, median, max or topk:K over a video's frames.",
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="p_fake from which the verdict is fake.  [default: the model's]")  # fmt: skip
def main(out: str, aggregation: str, threshold: float | None) -> None:
    """Derive faces/ and videos/ of OUT, the output folder of jobs/score.py, again."""
    start_logging(verbose=False)
    try:
        run(out, Aggregation.parse(aggregation), threshold)
    except DfdError as error:
        LOG.error("%s", error)
        sys.exit(2)


if __name__ == "__main__":
    main(prog_name="jobs/aggregate.py")
