"""DFDC: a `metadata.json` with labels, splits and originals beside the videos of each part."""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dfd_core.sources.layouts.names import in_dataset, stem
from dfd_core.sources.layouts.tree import DFDC, SPLIT_NAMES, Disagreement, Finding, Join, Tree, Video
from dfd_core.sources.suffixes import is_video
from dfd_core.storage.text import one_line

_METADATA = "metadata.json"
_DFDC_LABELS = {"REAL": "real", "FAKE": "fake"}


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a name that is there twice is seen."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a part's metadata.json."""

    path: str
    where: str
    label: str | None
    original: str | None
    split: str | None

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


def lists(paths: Iterable[str]) -> set[str]:
    """Return the list files of the layout among `paths`."""
    return {path for path in paths if posixpath.basename(path) == _METADATA}


def claim(tree: Tree) -> set[str]:
    """Return the files that this layout answers for."""
    parts = {posixpath.dirname(where): where for where in tree.texts if _entries(tree, where)}
    inside = {path for path in tree.paths if posixpath.dirname(path) in parts and is_video(path)}
    return inside | (set(parts.values()) & set(tree.paths))


def read(tree: Tree, claimed: Sequence[str]) -> Iterator[Finding]:
    """Yield what the layout finds in the files that it claimed."""
    yield from _broken_metadata(tree)
    by_path: dict[str, list[_Entry]] = defaultdict(list)
    by_name: dict[str, list[_Entry]] = defaultdict(list)
    for where in sorted(tree.texts.keys() & set(claimed)):
        for entry in _entries(tree, where):
            by_path[entry.path].append(entry)
            by_name[entry.name].append(entry)
    yield from _joins(by_name)
    for path in sorted(by_path.keys() - set(tree.paths)):
        yield Disagreement("missing_file", path, f"in {by_path[path][0].where}", DFDC)
    for path in filter(is_video, claimed):
        name = posixpath.basename(path)
        if path in by_path:
            yield from _video(by_path[path], by_name[name])
        else:
            yield Disagreement("no_label", path, f"no entry in {_METADATA}", DFDC)


def _entries(tree: Tree, where: str) -> list[_Entry]:
    """Return the entries of the list at `where`; none if it is not DFDC's."""
    if posixpath.basename(where) != _METADATA:
        return []
    try:
        content = json.loads(tree.texts[where], object_pairs_hook=_Pairs)
    except ValueError:
        return []
    if not isinstance(content, _Pairs):
        return []
    facts = [(name, dict(value) if isinstance(value, _Pairs) else {}) for name, value in content]
    return (
        [_entry(where, name, entry) for name, entry in facts] if any("label" in e for _, e in facts) else []
    )


def _entry(where: str, name: str, facts: Mapping[str, object]) -> _Entry:
    label, original, split = (str(facts.get(key) or "") for key in ("label", "original", "split"))
    path = posixpath.join(posixpath.dirname(where), name)
    return _Entry(path, where, _DFDC_LABELS.get(label.upper()), original or None, SPLIT_NAMES.get(split))


def _broken_metadata(tree: Tree) -> Iterator[Disagreement]:
    """Yield the lists beside videos that are not JSON; others may be anybody's."""
    folders = {posixpath.dirname(path) for path in tree.paths if is_video(path)}
    for where in tree.texts:
        if posixpath.basename(where) == _METADATA and posixpath.dirname(where) in folders:
            try:
                json.loads(tree.texts[where])
            except ValueError as error:
                yield Disagreement("unreadable_list", where, one_line(error), DFDC)


def _joins(by_name: Mapping[str, Sequence[_Entry]]) -> Iterator[Join]:
    """Yield what belongs together beyond a fake and its original: an original that is itself a fake."""
    originals = {entry.original for entries in by_name.values() for entry in entries if entry.original}
    for name, entries in by_name.items():
        own = {entry.original for entry in entries if entry.original}
        if own and name in originals:
            yield Join(in_dataset(DFDC, map(stem, {name, *own})))


def _video(entries: Sequence[_Entry], namesakes: Sequence[_Entry]) -> Iterator[Video | Disagreement]:
    """Yield one video; `entries` are those of its path, `namesakes` those of its name in every part."""
    path, label = entries[0].path, entries[0].label
    where = ", ".join(sorted({entry.where for entry in namesakes}))
    labels = {entry.label for entry in namesakes}
    splits = {entry.split for entry in entries}
    originals = sorted({entry.original for entry in namesakes if entry.original})
    if labels == {None}:
        yield Disagreement("no_label", path, f"neither REAL nor FAKE in {where}", DFDC)
        return
    if len(labels) > 1:
        yield Disagreement("contradictory_label", path, f"in {where}", DFDC)
        return
    if len(entries) > 1:
        yield Disagreement("duplicate_id", path, f"{len(entries)} entries in {where}", DFDC)
    if len(splits) > 1:
        yield Disagreement("contradictory_split", path, f"in {where}", DFDC)
    if label == "fake" and not originals:
        yield Disagreement("no_source", path, f"in {where}", DFDC)
    sources = in_dataset(DFDC, map(stem, originals or [path]))
    yield Video(path, label, DFDC, sources, split=splits.pop() if len(splits) == 1 else None)
