"""What the user sees at the end: counts, what each stage took, where the files are, and queries to paste."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from dfd_core.model.card import ModelCard
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage import address as storage


def print_summary(out: OutputFolder, counts: Counts, card: ModelCard) -> None:
    """Print the summary of a finished scoring run to standard output."""
    console = _print_counts(counts)
    if not card.trained:
        console.print("[bold]The model is untrained: these scores are noise.[/bold]")
    query = "SELECT video_id, status, p_fake, verdict FROM '{folder}/videos/*.parquet' ORDER BY p_fake DESC NULLS LAST;"
    _print_results(
        console, out, query, 'pd.read_parquet("{folder}/videos").sort_values("p_fake", ascending=False)'
    )


def print_faces_summary(out: OutputFolder, counts: Counts) -> None:
    """Print the summary of a finished extraction of faces to standard output."""
    query = "SELECT video_id, frame_index, face_index, octet_length(image) FROM '{folder}/faces/*.parquet' ORDER BY ALL;"
    _print_results(_print_counts(counts), out, query, 'pd.read_parquet("{folder}/videos")')


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


def _print_results(console: Console, out: OutputFolder, query: str, code: str) -> None:
    """Print where the results are, and a `query` and `code` to paste, in which `{folder}` stands for the folder."""
    folder = storage.as_text(out.root.rstrip("/"))
    query, code = (text.replace("{folder}", folder) for text in (query, code))
    console.print(
        escape(
            f"""
results: {folder}/videos  {folder}/faces  {folder}/run.json

DuckDB:  {query}
pandas:  {code}
"""
        )
    )
