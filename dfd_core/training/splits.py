"""The split into training and validation by group: a person or source video is on one side only.

Groups that share a byte-identical picture are one group here. An audit counts again, from the result alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dfd_core.errors import RequestError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """The faces of the validation side.

    Attributes:
        is_validation: (faces,) bool.
        component: (faces,) int64, a number for each set of groups that must stay together; the unit of bootstrap.
        num_groups: Groups before any were joined.
        num_joined_groups: Groups that were joined to another because they share a picture.
        num_shared_images: Different pictures that more than one group has.
    """

    is_validation: Bools
    component: npt.NDArray[np.int64]
    num_groups: int
    num_joined_groups: int
    num_shared_images: int


def split_by_group(faces: pd.DataFrame, *, validation: float, seed: int) -> Split:
    """Return a split in which about `validation` of the videos of each label validate.

    Groups are taken in a seeded random order; one validates if that brings the numbers of real and fake videos nearer
    to their share.

    Args:
        faces: One row a face: `video_id`, `is_fake`, `group` (None: the video is a group of its own), `image_hash`. All
            rows of a video have the same label and group.
        validation: Share of the videos, in (0, 1).
        seed: The same seed and faces give the same split.

    Raises:
        RequestError: A label is missing, or the groups are too few to have both labels on both sides.
    """
    group = group_numbers(faces)
    num_groups = int(group.max()) + 1 if len(group) else 0
    component, num_shared = _joined(group, faces["image_hash"])
    num_components = len(np.unique(component))
    videos = faces.assign(component=component).drop_duplicates("video_id")
    counts = np.zeros((num_components, 2), np.int64)
    np.add.at(counts, (videos["component"].to_numpy(), videos["is_fake"].to_numpy().astype(np.int64)), 1)
    _refuse_unsplittable(counts)
    chosen = _choose(counts, validation, np.random.default_rng(seed))
    is_validation = chosen[component]
    return Split(is_validation, component, num_groups, num_groups - num_components, num_shared)


def audit(faces: pd.DataFrame, is_validation: Bools) -> dict[str, int]:
    """Return how many videos, groups and byte-identical pictures are on both sides of a split; each is 0.

    It counts in the result, independently of the code that splits.

    Raises:
        ValueError: Something is on both sides.
    """
    found = {}
    for name, keys in (
        ("videos_on_both_sides", faces["video_id"]),
        ("groups_on_both_sides", faces["group"].dropna()),
        ("identical_images_on_both_sides", faces["image_hash"]),
    ):
        sides = pd.Series(is_validation, index=faces.index).loc[keys.index].groupby(keys).nunique()
        found[name] = int((sides > 1).sum())
    if any(found.values()):
        raise ValueError(f"Expected a split that separates groups. Received: {found}")
    return found


def group_numbers(faces: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return a number for each face's group; a video without one is a group of its own."""
    named = faces["group"].notna()
    keys = np.where(
        named, "group " + faces["group"].fillna("").astype(str), "video " + faces["video_id"].astype(str)
    )
    return np.unique(keys.astype(str), return_inverse=True)[1].astype(np.int64)


def _joined(group: npt.NDArray[np.int64], image_hash: pd.Series) -> tuple[npt.NDArray[np.int64], int]:
    """Return each face's component of groups linked by shared pictures, and how many pictures are shared."""
    image = image_hash.factorize()[0]
    pairs = np.unique(np.stack([group, image], axis=1), axis=0)
    shared = int((np.bincount(pairs[:, 1]) > 1).sum()) if len(pairs) else 0
    num_groups, num_images = int(group.max(initial=-1)) + 1, int(image.max(initial=-1)) + 1
    size = num_groups + num_images
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], num_groups + pairs[:, 1])), shape=(size, size))
    component = connected_components(links, directed=False)[1][group]
    return np.unique(component, return_inverse=True)[1].astype(np.int64), shared


def _refuse_unsplittable(counts: npt.NDArray[np.int64]) -> None:
    real, fake = counts.sum(axis=0)
    if not real or not fake:
        raise RequestError(
            f"Expected real and fake videos to learn from. Received: {real:,} real, {fake:,} fake"
        )
    with_real, with_fake = (counts > 0).sum(axis=0)
    if len(counts) < 2 or min(with_real, with_fake) < 2:
        raise RequestError(
            "Too few groups to split: each label is needed in two groups or more, one for either side. "
            f"Received: {len(counts):,} groups, {with_real:,} with reals, {with_fake:,} with fakes"
        )


def _choose(counts: npt.NDArray[np.int64], validation: float, rng: np.random.Generator) -> Bools:
    """Return which components validate: (components,) bool."""
    total = counts.sum(axis=0)
    target = validation * total
    taken = np.zeros(2)
    chosen = np.zeros(len(counts), np.bool_)
    for number in rng.permutation(len(counts)):
        after = taken + counts[number]
        if (np.abs((after - target) / total)).sum() < (np.abs((taken - target) / total)).sum():
            taken, chosen[number] = after, True
    if (taken == 0).any() or (taken == total).any():
        raise RequestError(
            f"Too few groups to split: validation would have {int(taken[0]):,} real and {int(taken[1]):,} fake videos, "
            f"training {int(total[0] - taken[0]):,} and {int(total[1] - taken[1]):,}. "
            f"Received: {len(counts):,} groups, --validation {validation:g}"
        )
    return chosen
