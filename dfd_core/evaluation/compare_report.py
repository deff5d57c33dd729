"""A comparison of two runs as `comparison.json`, for programs, and as one HTML page that loads nothing, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from dfd_core.errors import OutputError
from dfd_core.evaluation import compare_plots, plots
from dfd_core.evaluation.compare import Comparison, Flip, Run
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.intervals import Estimate
from dfd_core.evaluation.shifts import QUANTILES, Shift, Side
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, one_line

SCHEMA_VERSION = 1
COMPARISON_FILENAME = "comparison.json"
PAGE_FILENAME = "comparison.html"
MOST_FLIPS = 10_000
"""Flips in `comparison.json`; the page shows the first hundred."""

_SHOWN_FLIPS = 100
_MISSING = "–"


def write_comparison(comparison: Comparison, folder: str, *, a: Run, b: Run, labels: str | None) -> None:
    """Write `comparison.json` and `comparison.html` into `folder`, which is made if need be.

    Args:
        comparison: What to report.
        folder: Local path or URI.
        a: The first run.
        b: The second.
        labels: Address of the labels; None where the runs carried them, or there are none.

    Raises:
        OutputError: The folder cannot be written.
    """
    sources = {"a": as_text(a.name), "b": as_text(b.name), "labels": labels and as_text(labels)}
    address = Address.parse(folder)
    try:
        address.fs.create_dir(address.path, recursive=True)
        write_bytes(address / COMPARISON_FILENAME, comparison_json(comparison, sources).encode())
        write_bytes(address / PAGE_FILENAME, comparison_html(comparison, sources, a=a, b=b).encode())
    except OSError as error:
        raise OutputError(f"{as_text(folder)} cannot be written: {one_line(error)}") from error


def comparison_json(comparison: Comparison, sources: dict[str, str | None]) -> str:
    """Return the text of `comparison.json`; docs/evaluation.md describes it."""
    values = {
        "schema_version": SCHEMA_VERSION,
        **sources,
        "models": dict(zip("ab", comparison.models, strict=True)),
        "thresholds": dict(zip("ab", comparison.thresholds, strict=True)),
        "num_videos": dict(zip(("a", "b", "both"), comparison.num_videos, strict=True)),
        "num_labelled": comparison.num_labelled,
        "num_groups": comparison.num_groups,
        "bootstrap": asdict(comparison.bootstrap),
        "warnings": [asdict(note) for note in comparison.warnings],
        "changes": {name: asdict(change) for name, change in comparison.changes.items()},
        "verdicts": _pairs(comparison.verdicts),
        "statuses": _pairs(comparison.statuses),
        "num_flips": len(comparison.flips),
        "flips": [asdict(flip) for flip in comparison.flips[:MOST_FLIPS]],
        "quantiles": QUANTILES,
        "shifts": {shift.name: _without_name(shift) for shift in comparison.shifts},
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _without_name(shift: Shift) -> dict[str, Any]:
    return {name: value for name, value in asdict(shift).items() if name != "name"}


def _pairs(counts: dict[Any, int]) -> list[dict[str, Any]]:
    return [{"a": before, "b": after, "videos": count} for (before, after), count in counts.items()]


def comparison_html(comparison: Comparison, sources: dict[str, str | None], *, a: Run, b: Run) -> str:
    """Return the page: self-contained, and everything that came from outside escaped."""
    confidence = f"{100 * comparison.bootstrap.confidence:.4g} %"
    return _template().render(
        models=comparison.models,
        warnings=comparison.warnings,
        facts=list(_facts(comparison, sources)),
        tiles=list(_tiles(comparison)),
        changes=list(_changes(comparison)),
        num_labelled=f"{comparison.num_labelled:,}",
        num_groups=f"{comparison.num_groups:,}",
        confidence=confidence,
        resamples=f"{comparison.bootstrap.resamples:,}",
        tables=[_pair_table("Verdicts", comparison.verdicts), _pair_table("Statuses", comparison.statuses)],
        flips=[_flip(flip) for flip in comparison.flips[:_SHOWN_FLIPS]],
        num_flips=f"{len(comparison.flips):,}",
        shown_flips=_SHOWN_FLIPS,
        shifts=[_shift(shift) for shift in comparison.shifts],
        plots=list(_plots(comparison, a, b)),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dfd_core.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("comparison.html.jinja")


def _facts(comparison: Comparison, sources: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    for number, side in enumerate("ab"):
        count = comparison.num_videos[number]
        yield side.upper(), sources[side] or ""
        yield f"Model of {side.upper()}", f"{comparison.models[number]}, {count:,} videos"
        yield f"Threshold of {side.upper()}", f"{comparison.thresholds[number]:.6g}"
    yield "Labels", sources["labels"] or ("those in videos/" if comparison.changes else "none")


def _tiles(comparison: Comparison) -> Iterator[dict[str, str]]:
    auc = comparison.changes.get("roc_auc")
    if auc is not None:
        yield {
            "title": "ROC AUC, B − A",
            "value": _signed(auc.difference.value),
            "detail": _range(auc.difference),
        }
    opposite = sum(flip.is_opposite for flip in comparison.flips)
    yield {
        "title": "Verdicts that differ",
        "value": f"{len(comparison.flips):,}",
        "detail": f"{opposite:,} from real to fake or back",
    }
    yield {"title": "Videos of both", "value": f"{comparison.num_videos[2]:,}", "detail": ""}


def _changes(comparison: Comparison) -> Iterator[dict[str, str]]:
    for name, change in comparison.changes.items():
        reason = (
            change.difference.notes[0].text
            if change.difference.notes and change.difference.low is None
            else ""
        )
        yield {
            "title": DEFINITIONS[name].title,
            "a": _number(change.a),
            "b": _number(change.b),
            "difference": _signed(change.difference.value),
            "interval": _range(change.difference) or reason,
            "tells": _tells(name, change.difference),
        }


def _tells(name: str, difference: Estimate) -> str:
    """Return which run is better if the interval leaves 0 out."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return ""
    return "B is better" if (difference.low > 0) == (DEFINITIONS[name].best == 1) else "A is better"


def _pair_table(title: str, counts: dict[Any, int]) -> dict[str, Any]:
    befores = sorted({before or "undecided" for before, _ in counts})
    afters = sorted({after or "undecided" for _, after in counts})
    by_pair = {
        (before or "undecided", after or "undecided"): count for (before, after), count in counts.items()
    }
    rows = [(before, [f"{by_pair.get((before, after), 0):,}" for after in afters]) for before in befores]
    return {"title": title, "columns": afters, "rows": rows}


def _flip(flip: Flip) -> list[str]:
    verdicts = [flip.label or _MISSING, flip.verdict_a, flip.verdict_b]
    return [flip.video_id, *verdicts, f"{flip.p_fake_a:.3f}", f"{flip.p_fake_b:.3f}"]


def _shift(shift: Shift) -> dict[str, Any]:
    return {
        "title": shift.name,
        "sides": [_side(side) for side in (shift.a, shift.b)],
        "distance": f"{shift.distance:.3f}",
        "paired": _signed(shift.paired.value),
        "interval": _range(shift.paired),
        "num_paired": f"{shift.num_paired:,}",
    }


def _side(side: Side) -> list[str]:
    low, _, middle, _, high = side.quantiles
    return [f"{side.mean:.4g}", f"{middle:.4g}", f"{low:.4g} to {high:.4g}"]


def _plots(comparison: Comparison, a: Run, b: Run) -> Iterator[dict[str, Any]]:
    first, second = (run.measures.set_index("video_id")["p_fake"].dropna() for run in (a, b))
    if len(first) and len(second):
        figure = compare_plots.spread(first.to_numpy(np.float64), second.to_numpy(np.float64))
        yield _plot("Scores", "How p_fake is spread over the decided videos of either run.", figure)
    both = first.index.intersection(second.index)
    if len(both):
        figure = compare_plots.pairs(
            first[both].to_numpy(np.float64),
            second[both].to_numpy(np.float64),
            thresholds=comparison.thresholds,
        )
        yield _plot("Pairs", "Each video in both runs. Off the diagonal the runs disagree.", figure)


def _plot(title: str, caption: str, figure: Figure) -> dict[str, Any]:
    # Safe: made by matplotlib from numbers and this program's own words.
    svg = Markup(plots.to_svg(figure, prefix=title.lower()))
    return {"title": title, "caption": caption, "svg": svg}


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return _MISSING if value is None else f"{value:+.3g}".replace("-", "−")


def _range(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{_signed(estimate.low)} to {_signed(estimate.high)}"
