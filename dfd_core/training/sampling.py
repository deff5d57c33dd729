"""How often each face is in an epoch: datasets by their weights, and the two labels by theirs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfd_core.errors import RequestError

Ints = npt.NDArray[np.int64]


def parse_weights(text: str) -> dict[str, float]:
    """Return the weights that `NAME=W,…` gives; none of an empty text.

    >>> parse_weights("dfdc=2,ff=1")
    {'dfdc': 2.0, 'ff': 1.0}

    Raises:
        RequestError: It is no such text, or a weight is not above 0.
    """
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = 0.0
        if not name or name in weights or not 0 < weight < float("inf"):
            raise RequestError(
                f"Expected --dataset-weights NAME=W,… with each dataset once and W above 0. Received: {text!r}"
            )
        weights[name] = weight
    return weights


def draw_epoch(datasets: pd.Series, weights: Mapping[str, float], seed: int) -> Ints:
    """Return the faces of an epoch in random order: every face once, those of datasets too small for their weight again.

    Args:
        datasets: (faces,) names, or None.
        weights: Share of an epoch's faces that each dataset gets, up to a common factor; empty for no weighting.
        seed: Of the order.

    Returns:
        (places,) numbers of faces.

    Raises:
        RequestError: The weights do not name the datasets that the faces are from.
    """
    rng = np.random.default_rng(seed)
    if not weights:
        return rng.permutation(len(datasets))
    found = set(datasets.dropna())
    if found != set(weights) or datasets.isna().any():
        without = " and faces without one" if datasets.isna().any() else ""
        raise RequestError(
            f"Expected --dataset-weights to name each dataset: {', '.join(sorted(weights))}. "
            f"Received: {', '.join(sorted(found)) or 'no datasets'}{without}"
        )
    members = {name: np.flatnonzero(datasets == name) for name in weights}
    places_per_weight = max(len(members[name]) / weight for name, weight in weights.items())
    drawn = []
    for name, weight in weights.items():
        count = max(len(members[name]), round(weight * places_per_weight))
        repeats = -(-count // len(members[name]))
        drawn.append(np.concatenate([rng.permutation(members[name]) for _ in range(repeats)])[:count])
    return rng.permutation(np.concatenate(drawn))


def balanced_weights(is_fake: npt.NDArray[np.bool_], *, self_blend: float = 0.0) -> tuple[float, float]:
    """Return the weights of real and fake that make both labels weigh the same, 1 on average over the faces.

    Args:
        is_fake: (places,) bool.
        self_blend: Share of the real faces that become fakes.

    >>> balanced_weights(np.array([True, False, False, False]))
    (0.6666666666666666, 2.0)
    >>> balanced_weights(np.array([True, False, False, False]), self_blend=1 / 3)
    (1.0, 1.0)
    """
    blended = self_blend * int((~is_fake).sum())
    num_fake = int(is_fake.sum()) + blended
    return len(is_fake) / (2 * (len(is_fake) - num_fake)), len(is_fake) / (2 * num_fake)
