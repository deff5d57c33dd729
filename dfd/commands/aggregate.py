"""Derive the tables of an output folder again, with another aggregation; no video is opened."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from dfd.archive.summary import print_summary
from dfd.commands.shape import command
from dfd.exit_status import exit_with
from dfd_core.answers.aggregate import finish
from dfd_core.answers.verdicts import VerdictRule
from dfd_core.config import AGGREGATIONS, Aggregation
from dfd_core.errors import OutputError
from dfd_core.model.card import ModelCard, card_from_fields
from dfd_core.run.hashes import remove_hashes, write_hashes
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord

EXAMPLES = """
dfd NAME scores/ --aggregation max
dfd NAME scores/ --aggregation topk:5 --threshold 0.7
dfd NAME scores/ --aggregation worst-track
dfd NAME scores/ --threshold 0.2:0.9
"""


def run(folder: str, aggregation: Aggregation, threshold: str | None) -> None:
    """Write the tables of `folder` again.

    Args:
        folder: The output folder.
        aggregation: How a video's frames become one number.
        threshold: A number, or LOW:HIGH; None for the rule of the model's card.

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
        rule = _card_rule(model)
        if threshold is not None:
            rule = VerdictRule.parse(threshold, rule.limits)
        decisive = rule.threshold_high if threshold is not None else model["threshold"]
        remove_hashes(out)
        counts = finish(
            out,
            aggregation=aggregation,
            threshold=decisive,
            model_id=model["model_id"],
            rule=rule,
            keep_faces=record.values.get("keep_faces", 0),
        )
        counts = record.tables(counts, aggregation)
        record.values["threshold"] = decisive
        record.values["verdict_rule"] = rule.as_json()
        record.write(out)
        write_hashes(out, model)
    print_summary(out, counts, ModelCard(model["model_id"], trained=model["trained"]))


def _card_rule(model: dict[str, Any]) -> VerdictRule:
    """Return the rule of the card in `run.json`, or of its one threshold where a run of before holds no card."""
    if "card" not in model:
        return VerdictRule.single(model["threshold"])
    return VerdictRule.of_card(card_from_fields(model["card"]))


@command(EXAMPLES)
@click.argument("out")
@click.option(
    "--aggregation",
    default="worst-track",
    show_default=True,
    help=f"How a video's faces become one number: {AGGREGATIONS}.",
)
@click.option("--threshold", help="p_fake from which the verdict is fake, or LOW:HIGH: real below LOW, fake from HIGH on, uncertain between.  [default: the model's]")  # fmt: skip
def main(out: str, aggregation: str, threshold: str | None) -> None:
    """Derive the tables of OUT, the output folder of `dfd score`, again. No video is opened."""
    exit_with(lambda: run(out, Aggregation.parse(aggregation), threshold))
