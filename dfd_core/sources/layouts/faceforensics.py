"""FaceForensics++: `original_sequences/`, `manipulated_sequences/` and the official splits as pairs of sequences."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dfd_core.sources.layouts.names import from_folder, in_dataset, sequences, stem
from dfd_core.sources.layouts.tree import FACEFORENSICS, SPLITS, Disagreement, Finding, Join, Tree, Video
from dfd_core.sources.suffixes import is_video

_SEQUENCE_LABELS = {"original_sequences": "real", "manipulated_sequences": "fake"}


def lists(paths: Iterable[str]) -> set[str]:
    """Return the list files of the layout among `paths`."""
    paths = set(paths)
    return paths & _split_files(path for path in paths if from_folder(path, _SEQUENCE_LABELS)).keys()


def claim(tree: Tree) -> set[str]:
    """Return the files that this layout answers for."""
    return {path for path in tree.paths if from_folder(path, _SEQUENCE_LABELS)}


def read(tree: Tree, claimed: Sequence[str]) -> Iterator[Finding]:
    """Yield what the layout finds in the files that it claimed."""
    found = [_video(path) for path in claimed if is_video(path) and not _is_mask(path)]
    yield from (item for item in found if isinstance(item, Disagreement))
    videos = [item for item in found if isinstance(item, Video)]
    seen = {source for video in videos for source in video.sources}
    splits: dict[str, set[str]] = defaultdict(set)
    places = _split_files(claimed)
    for where in sorted(places.keys() & tree.texts.keys()):
        pairs = _split_pairs(tree.texts[where])
        if pairs is None:
            yield Disagreement("unreadable_list", where, "expected pairs of names", FACEFORENSICS)
        for pair in pairs or []:
            sources = in_dataset(FACEFORENSICS, pair)
            yield Join(sources)
            for name, source in zip(pair, sources, strict=True):
                splits[source].add(places[where])
                if source not in seen:
                    yield Disagreement("missing_file", f"{name}.mp4", f"in {where}", FACEFORENSICS)
    complete = set().union(*splits.values()) == set(SPLITS)
    for video in videos:
        found_splits = [splits.get(source, set()) for source in video.sources]
        yield from _with_official_split(video, found_splits, complete=complete)


def _is_mask(path: str) -> bool:
    return "masks" in from_folder(path, _SEQUENCE_LABELS)[1:-1]


def _video(path: str) -> Video | Disagreement:
    parts = from_folder(path, _SEQUENCE_LABELS)
    label = _SEQUENCE_LABELS[parts[0]]
    names = sequences(stem(path), label)
    if len(parts) != 5 or parts[3] != "videos" or not names:
        return Disagreement("unknown_name", path, "", FACEFORENSICS)
    method = parts[1] if label == "fake" else None
    sources = in_dataset(FACEFORENSICS, names)
    return Video(path, label, FACEFORENSICS, sources, method=method, compression=parts[2])


def _split_files(paths: Iterable[str]) -> dict[str, str]:
    """Return every place where a split file may lie, and the split that it is; none without a dataset in `paths`."""
    tops = {path.removesuffix("/".join(from_folder(path, _SEQUENCE_LABELS))) for path in paths}
    tops |= {""} if tops else set()
    folders = [top + below for top in tops for below in ("", "splits/", "dataset/splits/")]
    return {f"{folder}{split}.json": split for folder in folders for split in SPLITS}


def _split_pairs(text: str) -> list[list[str]] | None:
    """Return the pairs of a split file; None if it is none."""
    try:
        pairs = json.loads(text)
    except ValueError:
        return None
    good = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    return pairs if good and all(isinstance(name, str) for pair in pairs for name in pair) else None


def _with_official_split(
    video: Video, found: Sequence[set[str]], *, complete: bool
) -> Iterator[Video | Disagreement]:
    """Yield `video` with its split; `found` are those of its sources, `complete` says that all three lists are there."""
    named = sorted(set().union(*found))
    agreed = len(named) == 1 and all(found)
    yield replace(video, split=named[0]) if agreed else video
    if named and not agreed:
        detail = ", ".join("/".join(sorted(names)) or "none" for names in found)
        yield Disagreement("contradictory_split", video.path, detail, FACEFORENSICS)
    if complete and not named and ":actor" not in video.sources[0]:
        yield Disagreement("no_split", video.path, "", FACEFORENSICS)
