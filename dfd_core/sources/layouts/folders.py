"""Plain folders: whatever is below a folder called `real` or `fake`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dfd_core.sources.layouts.names import celebrities, in_dataset, sequences, stem
from dfd_core.sources.layouts.tree import SPLIT_NAMES, Disagreement, Finding, Tree, Video
from dfd_core.sources.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_video, suffix_of

_ID_FRAME = re.compile(r"(.+)_\d+")
_FRAME_ONLY = re.compile(r"(?:frame|image|img|face|crop)?[_-]?\d+", re.IGNORECASE)


def _labels_of(folders: Iterable[str]) -> list[str]:
    return [folder.lower() for folder in folders if folder.lower() in ("real", "fake")]


def claim(tree: Tree) -> set[str]:
    """Return the files that this layout answers for."""
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    return {path for path in tree.paths if suffix_of(path) in suffixes and _labels_of(path.split("/")[:-1])}


def read(tree: Tree, claimed: Sequence[str]) -> Iterator[Finding]:
    """Yield what the layout finds in the files that it claimed."""
    for path in claimed:
        folders = path.split("/")[:-1]
        labels = set(_labels_of(folders))
        splits = {SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES}
        if len(labels) > 1:
            yield Disagreement("contradictory_label", path, "below real/ and below fake/")
            continue
        label = labels.pop()
        plain = [folder for folder in folders if folder.lower() not in SPLIT_NAMES]
        at = [folder.lower() for folder in plain].index(label)
        dataset = "/".join(plain[:at]) or tree.name
        if len(splits) > 1:
            yield Disagreement("contradictory_split", path, ", ".join(sorted(splits)), dataset)
        sources = in_dataset(dataset, _sources_of(path, label, plain[at + 1 :]))
        yield Video(path, label, dataset, sources, split=splits.pop() if len(splits) == 1 else None)


def _sources_of(path: str, label: str, inner: Sequence[str]) -> tuple[str, ...]:
    """Return what a file's name says of its sources, at worst that it is its own.

    An image is called ID_FRAME, or by a frame number in a folder that is called ID; a video is called ID. An ID as in
    Celeb-DF or FaceForensics++ names its own sources.

    Args:
        path: Of the file.
        label: `real` or `fake`.
        inner: The folders between the one called `label` and the file.
    """
    name = stem(path)
    if not is_video(path) and not celebrities(name, label):
        numbered = _ID_FRAME.fullmatch(name)
        if _FRAME_ONLY.fullmatch(name):
            name = inner[-1] if inner else name
        elif numbered:
            name = numbered[1]
    return celebrities(name, label) or sequences(name, label) or (name,)
