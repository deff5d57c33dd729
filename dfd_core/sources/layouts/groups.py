"""Groups of videos that share a source, and what their names and splits contradict."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dfd_core.sources.layouts.names import stem
from dfd_core.sources.layouts.tree import CELEB_DF, DFDC, FACEFORENSICS, Disagreement, Finding, Video


class _Components:
    """Sets of names that grow together; each is called by its first member, numbers counting as numbers."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def name(self, member: str) -> str:
        parent = self._parents.setdefault(member, member)
        while parent != member:
            self._parents[member] = self._parents[parent]
            member, parent = parent, self._parents[parent]
        return member

    def join(self, members: Iterable[str]) -> None:
        roots = {self.name(member) for member in members}
        if len(roots) > 1:
            self._parents |= dict.fromkeys(roots, min(roots, key=_natural))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts `id2` before `id10`."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part) if position % 2 else -1, part) for position, part in enumerate(parts)]


def grouped(findings: Iterable[Finding]) -> list[Video]:
    """Return the videos among `findings`, each with its group."""
    with_sources = [found for found in findings if not isinstance(found, Disagreement)]
    components = _Components()
    for found in with_sources:
        components.join(found.sources)
    videos = [found for found in with_sources if isinstance(found, Video)]
    return [replace(video, group=components.name(video.sources[0])) for video in videos]


def duplicates(videos: Iterable[Video]) -> Iterator[Disagreement]:
    """Yield the videos of official layouts that another file of the same name, label and making repeats."""
    first: dict[tuple[str | None, ...], str] = {}
    for video in videos:
        key = (video.dataset, video.label, video.method, video.compression, stem(video.path))
        if key in first and video.dataset in (CELEB_DF, FACEFORENSICS, DFDC):
            yield Disagreement("duplicate_id", video.path, f"also at {first[key]}", video.dataset)
        first.setdefault(key, video.path)


def divided_groups(videos: Iterable[Video]) -> Iterator[Disagreement]:
    """Yield the groups whose videos are in more than one split."""
    splits: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for video in videos:
        splits[video.group or "", video.dataset][video.split or "none"] += 1
    for (group, dataset), counts in splits.items():
        if len(counts) > 1:
            detail = ", ".join(f"{count:,} {split}" for split, count in sorted(counts.items()))
            yield Disagreement("divided_group", group, detail, dataset)
