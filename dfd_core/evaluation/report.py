"""An evaluation as one HTML page that loads nothing, for people, written beside its `metrics.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dfd_core.answers.verdicts import REASONS
from dfd_core.errors import OutputError
from dfd_core.evaluation import plots
from dfd_core.evaluation.coverage import Coverage
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.evaluation import LEVELS, Evaluation, Part
from dfd_core.evaluation.intervals import Estimate
from dfd_core.evaluation.metrics_json import METRICS_FILENAME, metrics_json
from dfd_core.evaluation.truth import BY
from dfd_core.evaluation.verdict_counts import COVERAGES, VERDICTS, VerdictCounts
from dfd_core.model.source import DEFAULT_MODEL
from dfd_core.sources.manifest import LABELS
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, one_line

REPORT_FILENAME = "report.html"

_MISSING = "–"
_TITLES = {"video": "Videos", "face": "Faces"}
_TILES = ("roc_auc", "balanced_accuracy", "eer")
_TEXTS = {
    "video": "Each video with a score counts once.",
    "face": "Each face counts once and carries its video's label: a fake video with two people may show one real face.",
}
_BY_TEXTS = {
    "method": "Each method's fakes against all reals of the datasets that these fakes are from.",
    "dataset": "Reals and fakes of each dataset.",
    "compression": "Reals and fakes of each compression.",
}
_CALLED = ("Fakes called fake", "Reals called fake")


def write_report(evaluation: Evaluation, folder: str, *, scores: str, labels: str | None) -> None:
    """Write `metrics.json` and `report.html` into `folder`, which is made if need be.

    Args:
        evaluation: What to report.
        folder: Local path or URI.
        scores: Address of the scores, for the reader.
        labels: Address of the labels; None where the scores carried them.

    Raises:
        OutputError: The folder cannot be written.
    """
    sources = {"scores": as_text(scores), "labels": labels and as_text(labels)}
    address = Address.parse(folder)
    try:
        address.fs.create_dir(address.path, recursive=True)
        for name, text in (
            (METRICS_FILENAME, metrics_json(evaluation, sources)),
            (REPORT_FILENAME, report_html(evaluation, sources)),
        ):
            write_bytes(address / name, text.encode())
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class _Cell:
    value: str
    interval: str
    notes: tuple[int, ...]
    anchor: str


@dataclass(slots=True)
class _Notes:
    """The notes below one table, each text once."""

    anchor: str
    texts: list[str] = field(default_factory=list)

    def cell(self, estimate: Estimate) -> _Cell:
        """Return `estimate` as it is shown, its notes added to the list."""
        numbers = []
        for note in estimate.notes:
            if note.text not in self.texts:
                self.texts.append(note.text)
            numbers.append(self.texts.index(note.text) + 1)
        return _Cell(_number(estimate.value), _interval(estimate), tuple(numbers), self.anchor)


@dataclass(frozen=True, slots=True)
class _Plot:
    title: str
    caption: str
    alt: str
    svg: Markup | None


def report_html(evaluation: Evaluation, sources: dict[str, str | None]) -> str:
    """Return the page: self-contained, and everything that came from outside escaped."""
    video, bootstrap = evaluation.whole("video"), evaluation.bootstrap
    confidence = f"{100 * bootstrap.confidence:.4g} %"
    return _template().render(
        model_id=evaluation.run["model"].get("model_id", "an unnamed model"),
        warnings=evaluation.warnings,
        tiles=list(_tiles(video)),
        facts=list(_facts(evaluation, sources)),
        coverage=_share(video.coverage.share),
        outcomes=list(_outcomes(video.coverage)),
        verdicts=[_verdict_row(counts) for counts in evaluation.verdicts],
        reasons=[
            (REASONS[reason], f"{count:,}")
            for counts in evaluation.verdicts[:1]
            for reason, count in counts.reasons.items()
        ],
        levels=[_level(evaluation, level) for level in LEVELS],
        confidence=confidence,
        definitions=DEFINITIONS.values(),
        interval_text=(
            f"From {bootstrap.resamples:,} resamples of whole groups with replacement (seed {bootstrap.seed}): the "
            f"middle {confidence} of the values that the figure takes. The threshold stays fixed."
        ),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dfd_core.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.jinja")


def _tiles(video: Part) -> Iterator[dict[str, str]]:
    for name in _TILES:
        found = video.measured.figures[name]
        detail = found.notes[0].text if found.low is None and found.notes else _interval(found)
        yield {"title": DEFINITIONS[name].title, "value": _number(found.value), "detail": detail}
    undecided = video.coverage.num_undecided
    yield {
        "title": "Decided",
        "value": _share(video.coverage.share),
        "detail": f"{undecided:,} undecided" if undecided else "none undecided",
    }


def _facts(evaluation: Evaluation, sources: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    threshold, run = evaluation.threshold, evaluation.run
    origins = {"run": "the run's", "given": "as given"}
    origin = origins.get(threshold.source, f"chosen by {threshold.source} on these videos")
    yield "Scores", sources["scores"] or ""
    yield "Labels", sources["labels"] or "those in videos/"
    yield "Threshold", f"{threshold.value:.6g}, {origin}"
    yield "Video score", f"{run.get('aggregation', 'unknown')} over the frames with a face"
    if run["model"].get("model") == DEFAULT_MODEL:
        yield "Model", "the detector that ships"
    if run["model"].get("sha256"):
        yield "Model sha256", str(run["model"]["sha256"])


def _verdict_row(counts: VerdictCounts) -> dict[str, Any]:
    cells = []
    for label in LABELS:
        for verdict in VERDICTS:
            share = counts.share(label, verdict)
            cells.append((f"{counts.counts[label][verdict]:,}", "" if share is None else _share(share)))
    title = "all videos" if counts.value is None else counts.value
    return {"title": title, "by": counts.by or "", "cells": cells}


def _outcomes(coverage: Coverage) -> Iterator[tuple[str, list[str]]]:
    rows = {"decided": coverage.decided}
    rows |= {f"undecided: {status}": by_label for status, by_label in coverage.undecided.items()}
    rows["all"] = {label: sum(row[label] for row in rows.values()) for label in LABELS}
    for name, row in rows.items():
        yield name, [f"{number:,}" for number in (*(row[label] for label in LABELS), sum(row.values()))]


def _level(evaluation: Evaluation, level: str) -> dict[str, Any]:
    measured = evaluation.whole(level).measured
    notes = _Notes(f"{level}-note")
    rows = [
        {"title": DEFINITIONS[name].title, "cell": notes.cell(found)}
        for name, found in measured.figures.items()
    ]
    by = {by: [part for part in evaluation.parts if (part.level, part.by) == (level, by)] for by in BY}
    return {
        "name": level,
        "title": _TITLES[level],
        "text": _TEXTS[level],
        "counts": f"{measured.num_real:,} real, {measured.num_fake:,} fake, in {measured.num_groups:,} groups",
        "table": {"rows": rows, "notes": notes.texts, "anchor": notes.anchor},
        "plots": list(_plots(evaluation, level)),
        "tables": [_by_table(name, level, parts) for name, parts in by.items() if parts],
    }


def _by_table(by: str, level: str, parts: Sequence[Part]) -> dict[str, Any]:
    notes = _Notes(f"{level}-{by}")
    rows = []
    for part in parts:
        measured, undecided = part.measured, part.coverage.num_undecided
        counts = [f"{measured.num_fake:,} fake, {measured.num_real:,} real"]
        if level == "video" and undecided:
            counts.append(f"{undecided:,} undecided")
        called = measured.confusion
        cells = [notes.cell(found) for found in measured.figures.values()]
        verdicts = [
            f"{called.fake_called_fake:,} of {measured.num_fake:,}",
            f"{called.real_called_fake:,} of {measured.num_real:,}",
        ]
        rows.append({"title": part.value, "counts": counts, "cells": cells, "verdicts": verdicts})
    return {
        "title": f"{_TITLES[level]} by {by}",
        "text": _BY_TEXTS[by],
        "columns": [by, *(definition.title for definition in DEFINITIONS.values()), *_CALLED],
        "rows": rows,
        "notes": notes.texts,
        "anchor": notes.anchor,
    }


def _plots(evaluation: Evaluation, level: str) -> Iterator[_Plot]:
    scored, measured = evaluation.scored[level], evaluation.whole(level).measured
    cells, threshold = measured.confusion, evaluation.threshold
    verdicts = (
        f"At the threshold {threshold.value:.3g}, {cells.fake_called_fake:,} of {measured.num_fake:,} fakes are called "
        f"fake, and {cells.real_called_fake:,} of {measured.num_real:,} reals."
    )
    auc = measured.figures["roc_auc"]
    eer, precision, ece = (
        _number(measured.figures[name].value) for name in ("eer", "average_precision", "ece")
    )
    yield _plot(level, "Confusion matrix", verdicts, plots.confusion_map(cells))
    if auc.value is None:
        yield _Plot("ROC curve, precision and recall", f"Not drawn: {auc.notes[0].text}.", "", None)
    else:
        caption = f"Area {_number(auc.value)}; equal error rate {eer}."
        yield _plot(level, "ROC curve", caption, plots.roc(scored, threshold=threshold.value))
        share = _share(scored.num_fake / scored.num_items)
        caption = f"Average precision {precision}; the share of fakes, which chance gives, is {share}."
        yield _plot(level, "Precision and recall", caption, plots.precision_recall(scored))
    if level == "video" and any(counts.reasons for counts in evaluation.verdicts[:1]):
        told = ", ".join(
            f"{_share(share)} of them: {_number(evaluation.risk.risk_at(share))}" for share in COVERAGES
        )
        caption = f"If only the surest videos are judged at the threshold, the share of wrong verdicts is, with {told}."
        yield _plot(level, "Risk and coverage", caption, plots.risk_coverage(evaluation.risk))
    if scored.num_items:
        caption = f"Calibration error {ece}. Below the diagonal, p_fake is too high."
        yield _plot(level, "Calibration", caption, plots.calibration(scored))
        caption = "How p_fake is spread over each class."
        yield _plot(level, "Scores", caption, plots.histogram(scored, threshold=threshold.value))


def _plot(level: str, title: str, caption: str, figure: Figure) -> _Plot:
    prefix = f"{level}-{title.split(maxsplit=1)[0].lower()}"
    # Safe: made by matplotlib from numbers and this program's own words.
    svg = Markup(plots.to_svg(figure, prefix=prefix))
    return _Plot(title, caption, f"{title}, {_TITLES[level].lower()}. {caption}", svg)


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.3f}–{estimate.high:.3f}"


def _share(value: float | None) -> str:
    return _MISSING if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
