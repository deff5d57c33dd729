"""The pictures of an evaluation, drawn by matplotlib, as SVG that takes the page's colours.

A figure is drawn in three colours (ink, real, fake). As SVG for a page they become CSS colours, so that one picture
is right in light and in dark mode; saved as PNG they are themselves.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from sklearn import metrics as sk

from dfd_core.evaluation.metrics import NUM_CALIBRATION_BINS, calibration_bins
from dfd_core.evaluation.scored import Confusion, Floats, Scored, called_fake
from dfd_core.evaluation.verdict_counts import RiskCoverage

INK, REAL, FAKE = "#1d2430", "#1f63c0", "#b9480e"
_CSS = {INK: "currentColor", REAL: "var(--real)", FAKE: "var(--fake)"}
_SIZE_IN = (4.2, 3.7)
_CURVE_POINTS = 1000
_STYLE: Any = {
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "hatch.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "dfd",
}


def roc(scored: Scored, *, threshold: float) -> Figure:
    """Return the ROC curve, the operating point at `threshold` marked. Both classes must be there."""
    fpr, tpr, _ = sk.roc_curve(scored.is_fake, scored.p_fake.astype(np.float64))
    with styled_axes("False positive rate: reals called fake", "True positive rate: fakes found") as (
        figure,
        axes,
    ):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 4)), label="chance")
        axes.plot(*_thinned(fpr, tpr), color=FAKE)
        called = called_fake(scored.p_fake, threshold)
        point = called[~scored.is_fake].mean(), called[scored.is_fake].mean()
        axes.plot(
            *point, "o", color=FAKE, markersize=7, label=f"at the threshold {threshold:.3g}", clip_on=False
        )
        axes.legend(loc="lower right")
        unit_square(axes)
    return figure


def precision_recall(scored: Scored) -> Figure:
    """Return the precision–recall curve and the precision of chance. Both classes must be there."""
    precision, recall, _ = sk.precision_recall_curve(scored.is_fake, scored.p_fake.astype(np.float64))
    with styled_axes("Recall: fakes found", "Precision: of those called fake, true") as (figure, axes):
        share = scored.num_fake / scored.num_items
        axes.axhline(
            share, color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 4)), label="chance: share of fakes"
        )
        axes.step(*_thinned(recall, precision), where="post", color=FAKE)
        axes.legend(loc="lower left")
        unit_square(axes)
    return figure


def calibration(scored: Scored) -> Figure:
    """Return the share of fakes against the mean `p_fake` of each bin; a point's area grows with its items."""
    p_fake = scored.p_fake.astype(np.float64)
    bins = calibration_bins(p_fake)
    items = np.bincount(bins, minlength=NUM_CALIBRATION_BINS)
    filled = items > 0
    said = np.bincount(bins, p_fake, NUM_CALIBRATION_BINS)[filled] / items[filled]
    true = np.bincount(bins, scored.is_fake, NUM_CALIBRATION_BINS)[filled] / items[filled]
    with styled_axes("Mean p_fake of the bin", "Share of fakes in the bin") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 4)), label="perfect")
        axes.plot(said, true, color=FAKE, linewidth=1, alpha=0.6)
        sizes = 12 + 150 * items[filled] / items.max()
        axes.scatter(said, true, s=sizes, color=FAKE, label="bins, larger with more items", clip_on=False)
        legend_above(axes)
        unit_square(axes)
    return figure


def histogram(scored: Scored, *, threshold: float) -> Figure:
    """Return how `p_fake` is spread over reals and over fakes, each as shares of its own class."""
    with styled_axes("p_fake", "Share of the class") as (figure, axes):
        edges = np.linspace(0, 1, 2 * NUM_CALIBRATION_BINS + 1)
        for is_fake, name, color, hatch in ((False, "real", REAL, None), (True, "fake", FAKE, "////")):
            scores = scored.p_fake[scored.is_fake == is_fake].astype(np.float64)
            if len(scores):
                shares = np.histogram(scores, edges)[0] / len(scores)
                axes.stairs(shares, edges, fill=True, color=color, alpha=0.3, hatch=hatch)
                axes.stairs(shares, edges, color=color, linewidth=1.6, label=f"{name}, {len(scores):,}")
        axes.axvline(
            threshold, color=INK, linewidth=1, linestyle=(0, (1, 2)), label=f"threshold {threshold:.3g}"
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.2, columnspacing=1.2
        )
    return figure


def risk_coverage(curve: RiskCoverage) -> Figure:
    """Return the share of wrong verdicts against the share of videos that are judged, the surest first."""
    with styled_axes(
        "Coverage: share of videos judged, the surest first", "Risk: wrong verdicts among them"
    ) as (
        figure,
        axes,
    ):
        axes.plot(*_thinned(curve.coverage, curve.risk), color=FAKE)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
    return figure


def confusion_map(confusion: Confusion) -> Figure:
    """Return the confusion matrix as a heat map; a cell is as dark as its share of its label."""
    cells = np.array(
        [
            [confusion.real_called_real, confusion.real_called_fake],
            [confusion.fake_called_real, confusion.fake_called_fake],
        ]
    )
    names = ["real", "fake"]
    with styled_axes("Called", "Labelled") as (figure, axes):
        for (row, column), count in np.ndenumerate(cells):
            total = cells[row].sum()
            share = count / total if total else 0.0
            color = REAL if row == column else FAKE
            axes.add_patch(Rectangle((column, row), 1, 1, color=color, alpha=0.04 + 0.5 * share, linewidth=0))
            axes.text(column + 0.5, row + 0.46, f"{count:,}", ha="center", va="center", fontsize=17)
            of = f"{share:.1%} of {names[row]}" if total else f"no {names[row]}"
            axes.text(column + 0.5, row + 0.68, of, ha="center", va="center", fontsize=10)
        axes.set_xlim(0, 2)
        axes.set_ylim(2, 0)
        axes.set_xticks([0.5, 1.5], names)
        axes.set_yticks([0.5, 1.5], names, rotation=90, va="center")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for middle in (axes.axvline, axes.axhline):
            middle(1, color=INK, linewidth=0.6, alpha=0.4)
    return figure


def training_curves(history: Sequence[Mapping[str, float]], *, best_epoch: int) -> Figure:
    """Return loss and ROC AUC or accuracy against the epoch, the epoch whose weights were kept marked.

    Args:
        history: One mapping an epoch: `loss`, `val_loss`, and `accuracy`, `val_accuracy`, `val_auc` where known.
        best_epoch: From 1.
    """
    epochs = range(1, len(history) + 1)
    curves = (
        ("Log loss", (("loss", "training", REAL), ("val_loss", "validation", FAKE))),
        (
            "Accuracy at 0.5, ROC AUC",
            (
                ("accuracy", "training", REAL),
                ("val_accuracy", "validation", FAKE),
                ("val_auc", "validation ROC AUC", INK),
            ),
        ),
    )
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2 * _SIZE_IN[0], _SIZE_IN[1]))
        figure.subplots_adjust(left=0.1, right=0.97, bottom=0.13, top=0.9, wspace=0.3)
        for position, (title, lines) in enumerate(curves, start=1):
            axes = figure.add_subplot(1, 2, position)
            axes.set_xlabel("Epoch")
            axes.set_ylabel(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            for name, label, color in lines:
                if name in history[0]:
                    axes.plot(
                        epochs, [row[name] for row in history], "o-", markersize=3, color=color, label=label
                    )
            axes.axvline(best_epoch, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.grid(color=INK, alpha=0.12, linewidth=0.6)
            legend_above(axes)
    return figure


def to_svg(figure: Figure, *, prefix: str) -> str:
    """Return `figure` as an `<svg>` element for an HTML page.

    Its ids begin with `prefix`, so that two pictures of a page do not share one. It names no address and no
    namespace, which HTML does not need, and its colours are `currentColor`, `var(--real)` and `var(--fake)`. It is
    hidden from screen readers: the page says in words what it shows.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_visible(False)
        # Not savefig, which draws everything twice to find out how large it is.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.set(name.rpartition("}")[2], _for_page(name, value, prefix))
    for name in ("width", "height"):
        root.attrib.pop(name)
    root.set("aria-hidden", "true")
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href"):
        return value.replace("#", f"#{prefix}-", 1)
    for color, css in _CSS.items():
        value = value.replace(color, css)
    return value.replace("url(#", f"url(#{prefix}-")


@contextmanager
def styled_axes(x: str, y: str) -> Iterator[tuple[Figure, Axes]]:
    """Yield an empty figure and its axes, in the style of the pictures."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_IN)
        figure.subplots_adjust(left=0.14, right=0.97, bottom=0.13, top=0.92)
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield figure, axes


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, in one line."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.2, columnspacing=1.2)


def unit_square(axes: Axes) -> None:
    """Let both axes go from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return at most `_CURVE_POINTS` of a curve's points, both ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, _CURVE_POINTS).round().astype(np.int64))
    return x[chosen], y[chosen]
