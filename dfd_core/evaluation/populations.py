"""The parts of a set of videos that are measured apart: by method, dataset and compression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfd_core.evaluation.scored import Bools
from dfd_core.evaluation.truth import BY

MAX_PARTS = 50
"""Values of one column that are measured, those with most videos first."""


def populations(videos: pd.DataFrame) -> Iterator[tuple[str | None, str | None, str, Bools]]:
    """Yield column, value, contents in words and the members (videos,), everything first.

    A value of `dataset` or `compression` holds the reals and fakes that have it. A `method` holds its fakes and every
    real of the datasets that these are from, whatever the reals' own method says.
    """
    yield None, None, "every labelled item", np.ones(len(videos), np.bool_)
    is_fake = videos["is_fake"].to_numpy()
    for by in BY:
        for value in values_of(videos, by)[:MAX_PARTS]:
            members = (videos[by] == value).to_numpy()
            if by != "method":
                yield by, value, f"reals and fakes of {by} {value}", members
                continue
            fakes = members & is_fake
            homes = _homes(videos)
            reals = ~is_fake & np.isin(homes, np.unique(homes[fakes]))
            named = (
                ", ".join(repr(home) for home in np.unique(homes[fakes]).tolist())
                if "dataset" in videos
                else ""
            )
            yield (
                by,
                value,
                f"fakes of method {value} and all reals" + (named and f" of dataset {named}"),
                fakes | reals,
            )


def values_of(videos: pd.DataFrame, by: str) -> list[str]:
    """Return the values of column `by` that make parts, those of most videos first; a method's are those of fakes."""
    if by not in videos:
        return []
    makers = videos[by][videos["is_fake"]] if by == "method" else videos[by]
    return list(makers.value_counts().sort_index().sort_values(ascending=False, kind="stable").index)


def _homes(videos: pd.DataFrame) -> npt.NDArray[Any]:
    """Return the dataset of each video, empty where it is not known."""
    if "dataset" not in videos:
        return np.full(len(videos), "")
    return np.array([home or "" for home in videos["dataset"]], str)
