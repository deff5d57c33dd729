"""Check a finished run against what it recorded: its files, its inputs, its model, and a sample of its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from dfd.cluster.runtime import without_stderr
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with
from dfd_core.config import Aggregation, Limits
from dfd_core.errors import OutputError, RequestError
from dfd_core.model.source import DEFAULT_BUNDLE, DEFAULT_MODEL
from dfd_core.run.hashes import Hashes, read_hashes
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.run.verify import (
    Difference,
    compare_scores,
    input_address,
    sample_videos,
    verify_inputs,
    verify_model,
    verify_outputs,
)
from dfd_core.storage.address import Address
from dfd_core.storage.tables import dataset
from dfd_core.storage.text import as_text

EXAMPLES = """
dfd NAME scores/
dfd NAME scores/ --source /mnt/copy/of/videos
dfd NAME scores/ --model bundle/ --rescore 5
"""
_BOUNDS = {"float32": 1e-4}
_BOUND_BFLOAT16 = 2e-2
_FACE_KEYS = ("frame_index", "face_index")


def run(scores: str, source: str | None, model: str | None, rescore: int) -> int:
    """Check the output folder `scores`, print what differs, and return the exit status: 1 if anything does.

    Args:
        scores: The output folder.
        source: Where the inputs are now; None for where they were.
        model: Where the model is now; None for where it was.
        rescore: How many videos are scored again.

    Raises:
        RequestError: The folder holds no finished run, or the model cannot be used.
    """
    out = OutputFolder.at(scores)
    out.refuse_missing()
    hashes = read_hashes(out)
    differences = [*verify_outputs(out, hashes)]
    record = _record(out)
    root = record.values["configuration"].get("source") if record else None
    differences += verify_inputs(out, root, source)
    used = model or _recorded_model(record)
    if used is not None:
        differences += verify_model(Address.parse(used), hashes)
    if rescore:
        differences += _rescored(out, record, used, rescore, root, source)
    print_result(_summary(hashes, differences, rescore), lambda: _print(hashes, differences, rescore))
    return int(bool(differences))


def _record(out: OutputFolder) -> RunRecord | None:
    try:
        return RunRecord.read(out)
    except OutputError:  # a difference says so
        return None


def _recorded_model(record: RunRecord | None) -> str | None:
    """Return the address of the model's files as `run.json` has it; None if there is none to check."""
    model = (record.values.get("model") if record else None) or {}
    if not model.get("sha256"):
        return None
    return str(DEFAULT_BUNDLE) if model["model"] == DEFAULT_MODEL else str(model["model"])


def _rescored(
    out: OutputFolder,
    record: RunRecord | None,
    model: str | None,
    count: int,
    root: str | None,
    source: str | None,
) -> Iterator[Difference]:
    """Score `count` videos again and yield those whose scores are further away than the precision explains."""
    if record is None or not (used := model or record.values.get("model", {}).get("model")):
        raise RequestError("--rescore needs a run.json that names the model")
    from dfd_core.one_video import score_video

    settings = record.values["configuration"]
    if settings["source_kind"] != "videos":
        raise RequestError("--rescore is for runs over videos")
    precision = record.values["model"].get("precision", settings["precision"])
    for video in sample_videos(out, count):
        with without_stderr():  # TensorFlow says what it does not find
            score = score_video(
                input_address(video["uri"], root, source),
                model=used,
                sampling=settings["sampling"],
                aggregation=Aggregation.parse(record.values["aggregation"]),
                precision=precision,
                raw=bool(settings.get("raw")),
                detect_max_side_px=settings["detect_max_side_px"],
                detector=settings.get("detector"),
                limits=Limits(**settings["limits"]),
            )
        faces = _paired(_faces_of(out, video["video_id"]), score.faces)
        yield from compare_scores(video, score.p_fake, faces, bound=bound_of(precision))


def bound_of(precision: str) -> float:
    """Return how far two scores of the same face may be apart: batches of other sizes round differently."""
    return _BOUNDS.get(precision, _BOUND_BFLOAT16)


def _faces_of(out: OutputFolder, video_id: str) -> pa.Table:
    schema = pa.schema(
        [
            ("video_id", pa.string()),
            ("frame_index", pa.int64()),
            ("face_index", pa.int32()),
            ("p_fake", pa.float32()),
        ]
    )
    return dataset(out.faces, schema).to_table(filter=pc.field("video_id") == video_id)


def _paired(old: pa.Table, new: pa.Table) -> list[tuple[float, float]]:
    """Return the old and the new score of each face; a face that only one of them has differs by 1."""
    scores = [
        {tuple(row[key] for key in _FACE_KEYS): row["p_fake"] for row in table.to_pylist()}
        for table in (old, new)
    ]
    both = [(scores[0][key], scores[1][key]) for key in scores[0].keys() & scores[1].keys()]
    return both + [(0.0, 1.0)] * len(scores[0].keys() ^ scores[1].keys())


def _summary(hashes: Hashes, differences: list[Difference], rescored: int) -> dict[str, Any]:
    return {
        "files": len(hashes.files),
        "rescored": rescored,
        "differences": [difference.as_json() for difference in differences],
    }


def _print(hashes: Hashes, differences: list[Difference], rescored: int) -> None:
    for found in differences:
        values = f": recorded {found.recorded}, found {found.found}" if found.found and found.recorded else ""
        click.echo(f"{found.part:<7} {found.problem:<10} {as_text(found.name)}{values}")
    counts = Counter(found.part for found in differences)
    told = ", ".join(f"{count} {part}" for part, count in sorted(counts.items())) or "none"
    sample = f"; {rescored} videos scored again" if rescored else ""
    click.echo(f"{len(hashes.files)} files checked{sample}; differences: {told}")


@command(EXAMPLES)
@click.argument("scores")
@click.option("--source", help="The folder in which the inputs are now.  [default: where they were]")
@click.option("--model", help="The bundle or .keras file that scored.  [default: where it was]")
@click.option("--rescore", type=click.IntRange(min=0), default=0, show_default=True, help="Score this many of the videos again, and compare.")  # fmt: skip
def main(scores: str, source: str | None, model: str | None, rescore: int) -> None:
    """Check SCORES, the output folder of `dfd score`, against what the run recorded.

    Every file is compared with MANIFEST.sha256, every input with its recorded hash, or else its size and time of
    modification, and the model with the hash of the one that scored. The exit status is 1 if anything differs.
    """
    exit_with(lambda: run(scores, source, model, rescore))
