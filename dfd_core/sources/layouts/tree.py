"""What a dataset's files are, and what a layout finds in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CELEB_DF, FACEFORENSICS, DFDC, FOLDERS = "celeb-df-v2", "faceforensics", "dfdc", "folders"
LAYOUTS = (CELEB_DF, FACEFORENSICS, DFDC, FOLDERS)
SPLITS = ("train", "val", "test")
SPLIT_NAMES = dict.fromkeys(("train", "training"), "train")
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")
SPLIT_NAMES |= dict.fromkeys(("test", "testing"), "test")
"""What folders and lists call a split → its name here."""

KINDS = {
    "missing_file": "a list names a file that is not there",
    "no_label": "a video that nothing labels; left out unless such videos are kept",
    "contradictory_label": "a video with two labels; left out unless such videos are kept",
    "unknown_name": "a name that the layout does not know, so its sources are unknown; left out",
    "contradictory_split": "a video in two splits; kept, without a split",
    "no_split": "the official split does not name the video; kept, without a split",
    "no_source": "a fake whose source nothing names; kept, alone in its group",
    "duplicate_id": "a video that is there twice; both kept, in one group",
    "divided_group": "the dataset's own split separates videos of one group",
    "unreadable_list": "a list, or a line of one, that cannot be read",
    "unlisted_folder": "a folder that was not walked",
    "unlisted_file": "a file of a bucket that no address names",
}
"""The closed set of disagreements."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A contradiction or a gap in a dataset.

    Attributes:
        kind: One of `KINDS`.
        path: The file, relative to the tree, or the name of the group.
        detail: What was found; empty if the kind says it all.
        dataset: As in the manifest; None if it is not known.
    """

    kind: str
    path: str
    detail: str = ""
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """One video or image of a dataset.

    Attributes:
        path: Relative to the tree.
        label: `real` or `fake`; None where it is unknown.
        dataset: The layout's name; for plain folders, the folder that holds `real/` and `fake/`.
        sources: Who or what the footage shows, as `DATASET:NAME`; videos that share one belong together.
        group: The connected component of `sources`.
        method: How a fake was made.
        compression: As FaceForensics++ calls it: raw, c23, c40.
        split: The dataset's own: train, val or test.
    """

    path: str
    label: str | None
    dataset: str | None
    sources: tuple[str, ...] = ()
    group: str | None = None
    method: str | None = None
    compression: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below one folder.

    Attributes:
        name: The folder's own name.
        paths: Of every file, relative to the folder, sorted; hidden ones are left out.
        texts: The content of the list files, by path.
        faults: What could not be listed or read.
    """

    name: str
    paths: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Disagreement, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a tree holds: its videos in the order of their paths, and its disagreements."""

    videos: tuple[Video, ...]
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Sources of one group."""

    sources: tuple[str, ...]


Finding = Video | Disagreement | Join
"""What the reader of a layout yields."""
