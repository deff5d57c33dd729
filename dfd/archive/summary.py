"""What the user is told: what the source holds, and at the end the counts, the files and queries to paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from dfd.cluster.runtime import LOG
from dfd.commands.shape import print_result
from dfd_core.model.card import ModelCard
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.text import as_text

if TYPE_CHECKING:
    from dfd_core.sources.source import Source


def tell_source(source: Source, address: str, facts: str) -> None:
    """Log what the source holds and what of it is left out; `facts` ends the line."""
    LOG.info("%s in %s, %s", source.content, as_text(address), facts)
    for note in source.notes:
        LOG.info("%s", note)
    for reason in source.left_out:
        LOG.warning("Left out: %s", reason)


def tell_failures(counts: Counts, max_failed: float) -> None:
    """Log that more than a share `max_failed` of the videos failed."""
    failed = counts.videos["failed"]
    LOG.error("%d of %d videos failed: more than --max-failed %g", failed, counts.num_videos, max_failed)


def print_summary(out: OutputFolder, counts: Counts, card: ModelCard) -> None:
    """Print the summary of a finished scoring run to standard output."""
    query = "SELECT video_id, status, p_fake, verdict FROM '{folder}/videos/*.parquet' ORDER BY p_fake DESC NULLS LAST;"
    code = 'pd.read_parquet("{folder}/videos").sort_values("p_fake", ascending=False)'

    def print_text() -> None:
        console = _print_counts(counts)
        if not card.trained:
            console.print("[bold]The model is untrained: these scores are noise.[/bold]")
        _print_results(console, out, query, code, tables=("videos", "tracks", "spans", "faces"))

    values = {"model_id": card.model_id, "trained": card.trained}
    print_result(_values(out, counts) | values, print_text)


def print_faces_summary(out: OutputFolder, counts: Counts) -> None:
    """Print the summary of a finished extraction of faces to standard output."""
    query = "SELECT video_id, frame_index, face_index, octet_length(image) FROM '{folder}/faces/*.parquet' ORDER BY ALL;"
    code = 'pd.read_parquet("{folder}/videos")'
    print_result(_values(out, counts), lambda: _print_results(_print_counts(counts), out, query, code))


def _values(out: OutputFolder, counts: Counts) -> dict[str, Any]:
    stages = {"stage_seconds": counts.stage_s, "stage_cpu_seconds": counts.stage_cpu_s}
    return {"out": _folder(out), **counts.as_json(), **stages}


def _folder(out: OutputFolder) -> str:
    return str(out.root).rstrip("/")


def _print_counts(counts: Counts) -> Console:
    console = Console(highlight=False, soft_wrap=True)
    by_status = ", ".join(f"{number:,} {status}" for status, number in counts.videos.items())
    console.print(f"\n[bold]{counts.num_videos:,} videos[/bold]: {by_status}")
    if counts.error_kinds:
        console.print(
            "errors: " + ", ".join(f"{number:,} {kind}" for kind, number in counts.error_kinds.items())
        )
    footage = f", {counts.footage_s / 60:,.1f} minutes of footage" if counts.footage_s else ""
    console.print(f"{counts.num_faces:,} faces in {counts.num_frames:,} frames{footage}")
    console.print(stage_table(counts))
    return console


def stage_table(counts: Counts) -> str:
    """Return a table of three lines: the stages, and their wall-clock and CPU seconds summed over all workers.

    A stage whose CPU seconds are not measured has a dash.
    """
    columns = [("worker seconds", "wall", "CPU")]
    for stage, wall_s in counts.stage_s.items():
        cpu_s = counts.stage_cpu_s.get(stage)
        columns.append((stage, f"{wall_s:,.1f}", "–" if cpu_s is None else f"{cpu_s:,.1f}"))
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _print_results(
    console: Console, out: OutputFolder, query: str, code: str, *, tables: Sequence[str] = ("videos", "faces")
) -> None:
    """Print where the results are, and a `query` and `code` to paste, in which `{folder}` stands for the folder."""
    folder = _folder(out)
    query, code = (text.replace("{folder}", folder) for text in (query, code))
    console.print(
        escape(
            f"""
results: {"  ".join(f"{folder}/{name}" for name in (*tables, "run.json"))}

DuckDB:  {query}
pandas:  {code}
"""
        )
    )
