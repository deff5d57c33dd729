"""The pictures of a comparison of two runs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dfd_core.evaluation.plots import FAKE, INK, REAL, legend_above, styled_axes, unit_square
from dfd_core.evaluation.scored import Floats

_MOST_POINTS = 3000


def spread(first: Floats, second: Floats) -> Figure:
    """Return how `p_fake` is spread over the videos of either run, as shares of the run's own videos."""
    edges = np.linspace(0, 1, 31)
    with styled_axes("p_fake", "Share of the run's videos") as (figure, axes):
        for scores, name, color, hatch in ((first, "A", REAL, None), (second, "B", FAKE, "////")):
            shares = np.histogram(scores, edges)[0] / max(1, len(scores))
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.3, hatch=hatch)
            axes.stairs(shares, edges, color=color, linewidth=1.6, label=f"{name}, {len(scores):,}")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        legend_above(axes)
    return figure


def pairs(first: Floats, second: Floats, *, thresholds: tuple[float, float]) -> Figure:
    """Return each video's `p_fake` in both runs; of very many videos an even selection.

    Args:
        first: (videos,) in run A.
        second: (videos,) in run B.
        thresholds: Of A and B.
    """
    chosen = np.unique(np.linspace(0, len(first) - 1, min(len(first), _MOST_POINTS)).round().astype(np.int64))
    with styled_axes("p_fake in A", "p_fake in B") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 4)), label="unchanged")
        axes.scatter(first[chosen], second[chosen], s=9, color=FAKE, alpha=0.5, linewidths=0, label="videos")
        axes.axvline(thresholds[0], color=INK, linewidth=1, linestyle=(0, (1, 2)), label="thresholds")
        axes.axhline(thresholds[1], color=INK, linewidth=1, linestyle=(0, (1, 2)))
        legend_above(axes)
        unit_square(axes)
    return figure
