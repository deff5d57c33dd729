"""Celeb-DF-v2: `Celeb-real/`, `Celeb-synthesis/`, `YouTube-real/` and the official list of testing videos."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from dfd_core.sources.layouts.names import celebrities, from_folder, in_dataset, stem
from dfd_core.sources.layouts.tree import CELEB_DF, Disagreement, Finding, Tree, Video
from dfd_core.sources.suffixes import is_video

_CELEB_LABELS = {"Celeb-real": "real", "YouTube-real": "real", "Celeb-synthesis": "fake"}
_TESTING_LIST = "List_of_testing_videos.txt"


def lists(paths: Iterable[str]) -> set[str]:
    """Return the list files of the layout among `paths`."""
    return {path for path in paths if posixpath.basename(path) == _TESTING_LIST}


def claim(tree: Tree) -> set[str]:
    """Return the files that this layout answers for."""
    return {path for path in tree.paths if from_folder(path, _CELEB_LABELS)}


def read(tree: Tree, claimed: Sequence[str]) -> Iterator[Finding]:
    """Yield what the layout finds in the files that it claimed."""
    listed: dict[str, set[str]] = defaultdict(set)
    for where in sorted(lists(tree.texts)):
        for number, line in enumerate(tree.texts[where].splitlines(), start=1):
            found = re.fullmatch(r"([01])\s+(\S.*?)\s*", line)
            if found:
                path = posixpath.join(posixpath.dirname(where), found[2])
                listed[path].add("real" if found[1] == "1" else "fake")
            elif line.strip():
                detail = f"line {number}: {line.strip()[:80]!r}"
                yield Disagreement("unreadable_list", where, detail, CELEB_DF)
    for path in sorted(listed.keys() - set(tree.paths)):
        yield Disagreement("missing_file", path, f"in {_TESTING_LIST}", CELEB_DF)
    for path in filter(is_video, claimed):
        yield _video(path, listed.get(path))


def _video(path: str, listed: set[str] | None) -> Video | Disagreement:
    """Return one video; `listed` are the labels that the testing list gives it."""
    folder, *rest = from_folder(path, _CELEB_LABELS)
    label = _CELEB_LABELS[folder]
    if listed and listed != {label}:
        detail = f"{label} by its folder, not by {_TESTING_LIST}"
        return Disagreement("contradictory_label", path, detail, CELEB_DF)
    name = stem(path)
    alone = (f"{folder}/{name}",) if name.isdecimal() else ()
    names = alone if folder == "YouTube-real" else celebrities(name, label)
    if len(rest) != 1 or not names:
        return Disagreement("unknown_name", path, "", CELEB_DF)
    method = folder if label == "fake" else None
    split = "test" if listed else None
    return Video(path, label, CELEB_DF, in_dataset(CELEB_DF, names), method=method, split=split)
