"""Datasets as people have them → labels, groups and splits, and everything in them that does not add up.

`scan` lists a tree; `read_tree` is pure: a listing and the text of its list files in, videos and disagreements out.
Nothing is guessed: a video whose label is unknown or contradictory is left out and reported.

`group` is the connected component of the videos' sources: a fake joins everything that it was made from, and whatever
else was made from that. It is called `DATASET:FIRST_MEMBER`. docs/datasets.md says what that means for each dataset.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core import storage
from dfd_core.errors import ManifestError, OutputError
from dfd_core.manifest import MANIFEST_SUFFIXES, VIDEO_SUFFIXES
from dfd_core.schemas import to_table

CELEB_DF, FACEFORENSICS, DFDC, FOLDERS = "celeb-df-v2", "faceforensics", "dfdc", "folders"
LAYOUTS = (CELEB_DF, FACEFORENSICS, DFDC, FOLDERS)
IMAGE_SUFFIXES = frozenset("bmp jpeg jpg png tif tiff webp".split())

LABELLED = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("uri", "video_id")]
    + [
        pa.field(name, pa.string())
        for name in ("label", "group", "dataset", "method", "compression", "split")
    ]
)
"""The manifest that a dataset becomes: `dfd_core.manifest.read_source` reads it."""

KINDS = {
    "missing_file": "a list names a file that is not there",
    "no_label": "a video that nothing labels; left out",
    "contradictory_label": "a video with two labels; left out",
    "contradictory_split": "a video in two splits; kept without a split",
    "no_split": "the official split does not name the video; kept without a split",
    "no_source": "a fake whose source nothing names; kept, alone in its group",
    "unknown_name": "a name that the layout does not know, so its sources are unknown; left out",
    "duplicate_id": "one video twice; both kept, in one group",
    "divided_group": "the official split separates videos of one group",
    "unreadable_list": "a list, or a line of it, that cannot be read",
    "unlisted_folder": "a folder that was not walked",
}
"""The closed set of disagreements."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Something that does not add up.

    Attributes:
        kind: One of `KINDS`.
        path: What it is about: a file relative to the tree, or the name of a group.
        detail: What was met, where the kind alone does not say it.
        dataset: As in the manifest, where it is known.
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
        method: How the fake was made.
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
    """What a tree holds: its labelled videos in the order of their paths, and its disagreements."""

    videos: tuple[Video, ...]
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one layout finds in a tree; `joins` are sources that belong together, `claimed` are paths it answers for."""

    videos: list[Video] = field(default_factory=list)
    joins: list[tuple[str, ...]] = field(default_factory=list)
    disagreements: list[Disagreement] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)

    def report(self, kind: str, path: str, detail: str = "", dataset: str | None = None) -> None:
        self.disagreements.append(Disagreement(kind, path, detail, dataset))


def read_tree(tree: Tree, layout: str = "auto", *, keep_unlabelled: bool = False) -> Dataset:
    """Return the videos of `tree` with what its layout says of them.

    Args:
        tree: Its files.
        layout: One of `LAYOUTS`, or `auto` for every layout that is found in the tree.
        keep_unlabelled: Keep the videos whose label is unknown or contradictory, with a null label and group.

    Raises:
        ManifestError: The layout is not found in the tree.
    """
    parts, unclaimed = [], list(tree.paths)
    for name, reader in _READERS.items():
        if layout in ("auto", name):
            part = reader(replace(tree, paths=tuple(unclaimed)), strict=layout == name)
            parts.append(part)
            unclaimed = [path for path in unclaimed if path not in part.claimed]
    if not any(part.claimed for part in parts):
        raise ManifestError(f"Expected {_EXPECTED[layout]}. Received: {len(tree.paths):,} other files")
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if layout == FOLDERS else VIDEO_SUFFIXES
    disagreements = [*tree.faults, *(found for part in parts for found in part.disagreements)]
    disagreements += [
        Disagreement("no_label", path, "no layout knows it")
        for path in unclaimed
        if _suffix(path) in suffixes
    ]
    videos = _grouped(
        [video for part in parts for video in part.videos], [join for part in parts for join in part.joins]
    )
    disagreements += _divided_groups(videos)
    if keep_unlabelled:
        videos += _unlabelled(disagreements)
    return Dataset(tuple(sorted(videos, key=lambda video: video.path)), tuple(disagreements))


def _unlabelled(disagreements: Sequence[Disagreement]) -> list[Video]:
    found = {item.path: item for item in disagreements if item.kind in ("no_label", "contradictory_label")}
    return [Video(path, None, item.dataset) for path, item in found.items()]


# --- groups -------------------------------------------------------------------------------------------------------


class _Components:
    """Sets of names that grow together; each is called by its first member, numbers counting as numbers."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def name(self, member: str) -> str:
        parent = self._parents.setdefault(member, member)
        while parent != member:
            grandparent = self._parents[parent]
            self._parents[member] = grandparent
            member, parent = parent, grandparent
        return parent

    def join(self, members: Iterable[str]) -> None:
        roots = sorted({self.name(member) for member in members}, key=_natural)
        for root in roots[1:]:
            self._parents[root] = roots[0]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts `id2` before `id10`."""
    return [
        (int(part), part) if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def _grouped(videos: Sequence[Video], joins: Iterable[tuple[str, ...]]) -> list[Video]:
    components = _Components()
    for sources in [*joins, *(video.sources for video in videos)]:
        components.join(sources)
    return [replace(video, group=components.name(video.sources[0])) for video in videos]


def _divided_groups(videos: Sequence[Video]) -> Iterator[Disagreement]:
    splits: dict[str, set[str]] = defaultdict(set)
    datasets: dict[str, str | None] = {}
    for video in videos:
        if video.group:
            splits[video.group].add(video.split or "none")
            datasets[video.group] = video.dataset
    for group, found in splits.items():
        if len(found) > 1:
            yield Disagreement("divided_group", group, ", ".join(sorted(found)), datasets[group])


# --- official names: the sources of a video, from its name --------------------------------------------------------

_CELEBRITY = {"real": re.compile(r"(id\d+)_\d+"), "fake": re.compile(r"(id\d+)_(id\d+)_\d+")}
"""Celeb-DF: the person in the footage, the person whose face was put there, the number of the footage."""
_SEQUENCE = {"real": re.compile(r"(\d{3})"), "fake": re.compile(r"(\d{3})_(\d{3})")}
"""FaceForensics++: the target sequence, the source sequence."""
_ACTOR = {"real": re.compile(r"(\d{2})__.+"), "fake": re.compile(r"(\d{2})_(\d{2})__.+")}
"""DeepFakeDetection inside FaceForensics++: the actor in the footage, the actor whose face was put there, the scene."""


def _celebrities(name: str, label: str) -> tuple[str, ...]:
    found = _CELEBRITY[label].fullmatch(name)
    return found.groups() if found else ()


def _sequences(name: str, label: str) -> tuple[str, ...]:
    found = _SEQUENCE[label].fullmatch(name)
    if found:
        return found.groups()
    actors = _ACTOR[label].fullmatch(name)
    return tuple(f"actor{number}" for number in actors.groups()) if actors else ()


def _in_dataset(dataset: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{dataset}:{name}" for name in names)


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _from_folder(path: str, names: Iterable[str]) -> list[str]:
    """Return the parts of `path` from the first folder that has one of `names`; empty if none has."""
    parts = path.split("/")
    return next((parts[start:] for start, part in enumerate(parts[:-1]) if part in names), [])


def _duplicates(videos: Iterable[Video]) -> Iterator[Disagreement]:
    first: dict[tuple[str | None, ...], str] = {}
    for video in videos:
        key = (video.dataset, video.label, video.method, video.compression, _stem(video.path))
        if key in first:
            yield Disagreement("duplicate_id", video.path, f"also at {first[key]}", video.dataset)
        first.setdefault(key, video.path)


# --- Celeb-DF-v2 --------------------------------------------------------------------------------------------------

_CELEB_LABELS = {"Celeb-real": "real", "YouTube-real": "real", "Celeb-synthesis": "fake"}
_TESTING_LIST = "List_of_testing_videos.txt"


def _read_celeb_df(tree: Tree, *, strict: bool) -> _Part:
    part = _Part()
    part.claimed.update(path for path in tree.paths if _from_folder(path, _CELEB_LABELS))
    listed = _testing_lists(tree, part)
    for path in tree.paths:
        if path not in part.claimed or _suffix(path) not in VIDEO_SUFFIXES:
            continue
        folder, *rest = _from_folder(path, _CELEB_LABELS)
        label = _CELEB_LABELS[folder]
        names = _celeb_sources(folder, _stem(path)) if len(rest) == 1 else ()
        if listed.get(path, {label}) != {label}:
            part.report(
                "contradictory_label", path, f"{label} by its folder, not by {_TESTING_LIST}", CELEB_DF
            )
        elif not names:
            part.report("unknown_name", path, "", CELEB_DF)
        else:
            method = folder if label == "fake" else None
            split = "test" if path in listed else None
            sources = _in_dataset(CELEB_DF, names)
            part.videos.append(Video(path, label, CELEB_DF, sources, method=method, split=split))
    part.disagreements.extend(_duplicates(part.videos))
    return part


def _celeb_sources(folder: str, name: str) -> tuple[str, ...]:
    if folder == "YouTube-real":
        return (f"{folder}/{name}",) if name.isdecimal() else ()
    return _celebrities(name, _CELEB_LABELS[folder])


def _testing_lists(tree: Tree, part: _Part) -> dict[str, set[str]]:
    """Return the labels that the lists give to files of `tree`: their 1 is real, and they have no header line."""
    paths, listed = set(tree.paths), defaultdict(set)
    for where in [path for path in tree.texts if posixpath.basename(path) == _TESTING_LIST]:
        for number, line in enumerate(tree.texts[where].splitlines(), start=1):
            found = re.fullmatch(r"([01])\s+(\S.*?)\s*", line)
            path = posixpath.join(posixpath.dirname(where), found[2]) if found else ""
            if not found and line.strip():
                part.report("unreadable_list", where, f"line {number}: {line.strip()[:80]!r}", CELEB_DF)
            elif path in paths:
                listed[path].add("real" if line[0] == "1" else "fake")
            elif path:
                part.report("missing_file", path, f"listed in {where}", CELEB_DF)
    return dict(listed)


# --- FaceForensics++ ----------------------------------------------------------------------------------------------

_SEQUENCE_LABELS = {"original_sequences": "real", "manipulated_sequences": "fake"}
_SPLITS = ("train", "val", "test")


def _read_faceforensics(tree: Tree, *, strict: bool) -> _Part:
    part = _Part()
    part.claimed.update(path for path in tree.paths if _from_folder(path, _SEQUENCE_LABELS))
    if not part.claimed:
        return part
    for path in tree.paths:
        parts = _from_folder(path, _SEQUENCE_LABELS)
        if not parts or _suffix(path) not in VIDEO_SUFFIXES or "masks" in parts[1:-1]:
            continue
        label = _SEQUENCE_LABELS[parts[0]]
        names = _sequences(_stem(path), label) if len(parts) == 5 and parts[3] == "videos" else ()
        if names:
            method = parts[1] if label == "fake" else None
            sources = _in_dataset(FACEFORENSICS, names)
            part.videos.append(
                Video(path, label, FACEFORENSICS, sources, method=method, compression=parts[2])
            )
        else:
            part.report("unknown_name", path, "", FACEFORENSICS)
    part.disagreements.extend(_duplicates(part.videos))
    _add_official_splits(tree, part)
    return part


def _split_files(paths: Iterable[str]) -> dict[str, str]:
    """Return the places where FaceForensics++'s split files may lie, and the split that each is."""
    tops = {""}
    for path in paths:
        found = _from_folder(path, _SEQUENCE_LABELS)
        if found:
            tops.add(path.removesuffix("/".join(found)))
    folders = sorted(top + below for top in tops for below in ("", "splits/", "dataset/splits/"))
    return {f"{folder}{split}.json": split for folder in folders for split in _SPLITS}


def _add_official_splits(tree: Tree, part: _Part) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    seen = {source for video in part.videos for source in video.sources}
    loaded = set()
    for where, split in _split_files(tree.paths).items():
        if where not in tree.texts:
            continue
        pairs = _split_pairs(tree.texts[where])
        if pairs is None:
            part.report("unreadable_list", where, "expected a list of pairs of names", FACEFORENSICS)
            continue
        loaded.add(split)
        part.claimed.add(where)
        for pair in pairs:
            sources = _in_dataset(FACEFORENSICS, pair)
            part.joins.append(sources)
            for name, source in zip(pair, sources, strict=True):
                splits[source].add(split)
                if source not in seen:
                    part.report("missing_file", f"{name}.mp4", f"listed in {where}", FACEFORENSICS)
    if loaded:
        part.videos[:] = [_with_split(video, splits, loaded, part) for video in part.videos]


def _split_pairs(text: str) -> list[list[str]] | None:
    try:
        pairs = json.loads(text)
    except ValueError:
        return None
    good = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in pairs
    )
    return pairs if good else None


def _with_split(video: Video, splits: Mapping[str, set[str]], loaded: set[str], part: _Part) -> Video:
    found = [splits.get(source, set()) for source in video.sources]
    named = set().union(*found)
    if len(named) == 1 and all(found):
        return replace(video, split=named.pop())
    if named:
        detail = ", ".join("/".join(sorted(names)) or "none" for names in found)
        part.report("contradictory_split", video.path, detail, FACEFORENSICS)
    elif loaded == set(_SPLITS) and ":actor" not in video.sources[0]:
        part.report("no_split", video.path, "", FACEFORENSICS)
    return video


# --- DFDC ---------------------------------------------------------------------------------------------------------

_METADATA = "metadata.json"
_DFDC_LABELS = {"REAL": "real", "FAKE": "fake"}


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


def _read_dfdc(tree: Tree, *, strict: bool) -> _Part:
    part = _Part()
    entries = _dfdc_entries(tree, part, strict=strict)
    paths = set(tree.paths)
    by_name: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_name[entry.name].append(entry)
    part.joins.extend(_dfdc_chains(by_name))
    for path, listed in _by_path(entries).items():
        if path not in paths:
            part.report("missing_file", path, f"listed in {listed[0].where}", DFDC)
            continue
        part.claimed.add(path)
        _add_dfdc_video(listed, by_name[listed[0].name], part)
    folders = {posixpath.dirname(entry.where): entry.where for entry in entries}
    for path in tree.paths:
        where = folders.get(posixpath.dirname(path))
        if where and _suffix(path) in VIDEO_SUFFIXES and path not in part.claimed:
            part.claimed.add(path)
            part.report("no_label", path, f"no entry in {where}", DFDC)
    part.disagreements.extend(_duplicates(part.videos))
    return part


def _by_path(entries: Iterable[_Entry]) -> dict[str, list[_Entry]]:
    found: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.path].append(entry)
    return dict(found)


def _dfdc_chains(by_name: Mapping[str, Sequence[_Entry]]) -> Iterator[tuple[str, ...]]:
    """Yield what belongs together beyond one fake and its original: originals that are fakes, or differ by list."""
    originals = {entry.original for entries in by_name.values() for entry in entries if entry.original}
    for name, entries in by_name.items():
        own = {entry.original for entry in entries if entry.original} | ({name} & originals)
        if len(own) > 1:
            yield _in_dataset(DFDC, sorted(map(_stem, own)))


def _add_dfdc_video(listed: Sequence[_Entry], namesakes: Sequence[_Entry], part: _Part) -> None:
    """Add the video at the path of `listed`; `namesakes` are the entries of its name in every part."""
    entry = listed[0]
    labels = {other.label for other in namesakes}
    originals = sorted({other.original for other in namesakes if other.original})
    if labels == {None}:
        part.report("no_label", entry.path, f"neither REAL nor FAKE in {entry.where}", DFDC)
        return
    if len(labels) > 1:
        where = ", ".join(sorted({other.where for other in namesakes}))
        part.report("contradictory_label", entry.path, f"by {where}", DFDC)
        return
    if len(listed) > 1:
        part.report("duplicate_id", entry.path, f"{len(listed)} entries in {entry.where}", DFDC)
    if entry.label == "fake" and not originals:
        part.report("no_source", entry.path, "", DFDC)
    sources = _in_dataset(DFDC, map(_stem, originals or [entry.name]))
    splits = {other.split for other in listed}
    if len(splits) > 1:
        part.report("contradictory_split", entry.path, f"by {entry.where}", DFDC)
    split = entry.split if len(splits) == 1 else None
    part.videos.append(Video(entry.path, entry.label, DFDC, sources, split=split))


def _dfdc_entries(tree: Tree, part: _Part, *, strict: bool) -> list[_Entry]:
    folders_with_videos = {posixpath.dirname(path) for path in tree.paths if _suffix(path) in VIDEO_SUFFIXES}
    entries = []
    for where in tree.paths:
        if posixpath.basename(where) != _METADATA or where not in tree.texts:
            continue
        try:
            pairs = json.loads(tree.texts[where], object_pairs_hook=_Pairs)
        except ValueError:
            if strict or posixpath.dirname(where) in folders_with_videos:
                part.claimed.add(where)
                part.report("unreadable_list", where, "not JSON", DFDC)
            continue
        if _is_dfdc(pairs):
            part.claimed.add(where)
            entries += [_entry(where, name, facts) for name, facts in pairs]
        elif strict:
            part.report("unreadable_list", where, "not DFDC's", DFDC)
    return entries


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a name that is there twice is seen."""


def _is_dfdc(content: object) -> bool:
    return isinstance(content, _Pairs) and any(
        isinstance(facts, _Pairs) and "label" in dict(facts) for _, facts in content
    )


def _entry(where: str, name: str, content: object) -> _Entry:
    facts = dict(content) if isinstance(content, _Pairs) else {}
    label, original, split = (facts.get(key) for key in ("label", "original", "split"))
    return _Entry(
        path=posixpath.join(posixpath.dirname(where), name),
        where=where,
        label=_DFDC_LABELS.get(label) if isinstance(label, str) else None,
        original=original if isinstance(original, str) and original else None,
        split=_SPLIT_NAMES.get(split) if isinstance(split, str) else None,
    )


# --- plain folders ------------------------------------------------------------------------------------------------

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "test": "test",
    "testing": "test",
}
_ID_FRAME = re.compile(r"(.+)_\d+")
_FRAME_ONLY = re.compile(r"(?:frame|image|img|face|crop)?[_-]?\d+", re.IGNORECASE)


def _read_folders(tree: Tree, *, strict: bool) -> _Part:
    part = _Part()
    for path in tree.paths:
        *folders, _ = path.split("/")
        labels = {folder.lower() for folder in folders} & {"real", "fake"}
        if not labels or _suffix(path) not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            continue
        part.claimed.add(path)
        splits = {_SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in _SPLIT_NAMES}
        if len(labels) > 1:
            part.report("contradictory_label", path, "below real/ and fake/")
            continue
        if len(splits) > 1:
            part.report("contradictory_split", path, ", ".join(sorted(splits)))
        (label,) = labels
        dataset, inner = _around_label(folders, tree.name)
        sources = _in_dataset(dataset, _folder_sources(path, label, inner))
        part.videos.append(
            Video(path, label, dataset, sources, split=splits.pop() if len(splits) == 1 else None)
        )
    return part


def _around_label(folders: Sequence[str], tree_name: str) -> tuple[str, list[str]]:
    """Return the dataset that the folders above `real` or `fake` name, and the folders below."""
    lower = [folder.lower() for folder in folders]
    at = min(lower.index(label) for label in ("real", "fake") if label in lower)
    above, below = (
        [f for f in part if f.lower() not in _SPLIT_NAMES] for part in (folders[:at], folders[at + 1 :])
    )
    return "/".join(above) or tree_name, below


def _folder_sources(path: str, label: str, inner: Sequence[str]) -> tuple[str, ...]:
    """Return what a file's name says of its sources, at worst that it is its own.

    An image is `ID_FRAME`, or a frame number in a folder that is called ID. An ID of Celeb-DF or FaceForensics++ names
    its own sources.
    """
    name = _stem(path)
    if _suffix(path) in IMAGE_SUFFIXES and not _celebrities(name, label):
        if _FRAME_ONLY.fullmatch(name):
            name = inner[-1] if inner else name
        else:
            found = _ID_FRAME.fullmatch(name)
            name = found[1] if found else name
    return _celebrities(name, label) or _sequences(name, label) or (name,)


_READERS = {
    CELEB_DF: _read_celeb_df,
    FACEFORENSICS: _read_faceforensics,
    DFDC: _read_dfdc,
    FOLDERS: _read_folders,
}
_EXPECTED = {
    CELEB_DF: "Celeb-real/, Celeb-synthesis/ or YouTube-real/ (Celeb-DF-v2)",
    FACEFORENSICS: "original_sequences/ or manipulated_sequences/ (FaceForensics++)",
    DFDC: "videos beside a metadata.json that labels them (DFDC)",
    FOLDERS: "videos or images below folders called real/ and fake/",
}
_EXPECTED["auto"] = ", or ".join(_EXPECTED.values())


# --- files in, files out ------------------------------------------------------------------------------------------


def scan(root: str) -> Tree:
    """Return the files below `root`, a local folder or a remote one, and the text of the lists among them.

    Raises:
        ManifestError: `root` is no folder.
        RequestError: Its address has credentials in it, or no storage is known for it.
    """
    fs, path = storage.filesystem(root)
    if fs.get_file_info(path).type != pafs.FileType.Directory:
        raise ManifestError(f"Expected a folder at {storage.as_text(root)!r}")
    faults: list[Disagreement] = []
    if isinstance(fs, pafs.LocalFileSystem):
        paths = sorted(_walk(path, faults))
    else:
        infos = fs.get_file_info(pafs.FileSelector(path, recursive=True))
        names = [posixpath.relpath(info.path, path) for info in infos if info.type == pafs.FileType.File]
        paths = sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
    texts = {}
    for where in _list_files(paths):
        try:
            texts[where] = storage.read_bytes(storage.join(root, where)).decode("utf-8-sig", "replace")
        except OSError as error:
            faults.append(Disagreement("unreadable_list", where, storage.one_line(error)))
    return Tree(posixpath.basename(path.rstrip("/")) or "root", tuple(paths), texts, tuple(faults))


def _walk(folder: str, faults: list[Disagreement]) -> Iterator[str]:
    def unlisted(error: OSError) -> None:
        faults.append(
            Disagreement("unlisted_folder", os.path.relpath(error.filename, folder), str(error.strerror))
        )

    for here, folders, names in os.walk(folder, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = "" if here == folder else os.path.relpath(here, folder) + "/"
        for name in folders:
            if os.path.islink(os.path.join(here, name)):
                faults.append(
                    Disagreement("unlisted_folder", below + name, "links to folders are not followed")
                )
        yield from (below + name for name in names if not name.startswith("."))


def _list_files(paths: Sequence[str]) -> list[str]:
    splits = _split_files(paths)
    return [
        path for path in paths if posixpath.basename(path) in (_TESTING_LIST, _METADATA) or path in splits
    ]


def manifest_of(dataset: Dataset, root: str, out: str) -> pa.Table:
    """Return the manifest of `dataset` as a table of LABELLED.

    Args:
        dataset: What was read below `root`.
        root: The folder that the paths are relative to.
        out: Where the manifest will be. If that is inside `root`, or in a folder above it, the addresses are relative
            to the manifest's folder, so that both can be moved together; otherwise they are absolute.
    """
    prefix = _prefix(root, out)
    return to_table(
        [
            {
                "uri": _uri(root, prefix, video.path),
                "video_id": storage.as_text(video.path),
                "label": video.label,
                "group": None if video.group is None else storage.as_text(video.group),
                "dataset": None if video.dataset is None else storage.as_text(video.dataset),
                "method": video.method and storage.as_text(video.method),
                "compression": video.compression and storage.as_text(video.compression),
                "split": video.split,
            }
            for video in dataset.videos
        ],
        LABELLED,
    )


def _prefix(root: str, out: str) -> str | None:
    if storage.is_remote(root) or storage.is_remote(out):
        folder = posixpath.dirname(out.partition("?")[0])
        top = root.partition("?")[0].rstrip("/")
        below = storage.relative_to(top, folder) if top != folder else ""
        return below if below != top and storage.is_remote(root) and storage.is_remote(out) else None
    top = os.path.abspath(storage.local_path(root))
    folder = os.path.dirname(os.path.abspath(storage.local_path(out)))
    if os.path.commonpath([top, folder]) not in (top, folder):
        return None
    below = os.path.relpath(top, folder)
    return "" if below == "." else below


def _uri(root: str, prefix: str | None, path: str) -> str:
    if prefix is not None and storage.is_text(prefix + path):
        return posixpath.join(prefix, path)
    whole = storage.join(root, path)
    return whole if storage.is_remote(whole) else storage.local_uri(whole)


def check_out(out: str) -> None:
    """Check that a manifest can be called `out`.

    Raises:
        OutputError: Its ending is none of a manifest's.
    """
    if _suffix(out.partition("?")[0]) not in MANIFEST_SUFFIXES:
        endings = ", ".join(f".{suffix}" for suffix in MANIFEST_SUFFIXES)
        raise OutputError(f"Expected a manifest that ends in {endings}. Received: {out!r}")


def write_manifest(table: pa.Table, out: str) -> None:
    """Write `table` at `out` as its ending says.

    Raises:
        OutputError: `out` cannot be written.
    """
    check_out(out)
    suffix = _suffix(out.partition("?")[0])
    if suffix == "parquet":
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        content = buffer.getvalue()
    elif suffix == "csv":
        content = table.to_pandas().to_csv(index=False, lineterminator="\n").encode()
    else:
        content = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    _write(out, content)


def write_report(dataset: Dataset, root: str, out: str) -> None:
    """Write every disagreement of `dataset` at `out`, as JSON.

    Raises:
        OutputError: `out` cannot be written.
    """
    found = [
        {
            "kind": item.kind,
            "path": storage.as_text(item.path),
            "detail": storage.as_text(item.detail),
            "dataset": item.dataset and storage.as_text(item.dataset),
        }
        for item in dataset.disagreements
    ]
    counts = dict(Counter(item.kind for item in dataset.disagreements))
    content = {"root": storage.as_text(root), "videos": len(dataset.videos), "counts": counts, "found": found}
    _write(out, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _write(out: str, content: bytes) -> None:
    try:
        if not storage.is_remote(out):
            os.makedirs(os.path.dirname(os.path.abspath(storage.local_path(out))), exist_ok=True)
        storage.write_bytes(out, content)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {storage.one_line(error)}") from error
