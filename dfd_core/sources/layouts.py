"""Datasets as people have them → labels, groups and splits, and everything in them that does not add up.

`scan` lists a tree; `read_tree` is pure: a listing and the text of its list files in, videos and disagreements out.
Nothing is guessed: a video whose label is unknown or contradictory is left out and reported.

`group` is a connected component of sources: a fake joins everything that it was made from, and whatever else was made
from that. It is called `DATASET:FIRST_MEMBER`. docs/datasets.md says what it means for each dataset.
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

from dfd_core.errors import ManifestError, OutputError
from dfd_core.schemas import to_table
from dfd_core.sources.manifest import MANIFEST_SUFFIXES, VIDEO_SUFFIXES
from dfd_core.storage import address as storage

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
"""The manifest that a dataset becomes; `dfd_core.sources.manifest.read_source` reads it."""

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
class _Join:
    """Sources that belong together, whatever videos show them."""

    sources: tuple[str, ...]


_Finding = Video | Disagreement | _Join


def read_tree(tree: Tree, layout: str = "auto", *, keep_unlabelled: bool = False) -> Dataset:
    """Return the videos of `tree` with what its layout says of them.

    Args:
        tree: Its files.
        layout: One of `LAYOUTS`, or `auto` for every layout that is found in the tree.
        keep_unlabelled: Keep videos whose label is unknown or contradictory, with a null label and group.

    Raises:
        ManifestError: The layout is not found in the tree.
    """
    findings: list[_Finding] = list(tree.faults)
    rest = list(tree.paths)
    for name in LAYOUTS:
        if layout in ("auto", name):
            claim, read = _READERS[name]
            claimed = claim(replace(tree, paths=tuple(rest)))
            findings += read(tree, sorted(claimed))
            rest = [path for path in rest if path not in claimed]
    if len(rest) == len(tree.paths):
        raise ManifestError(f"Expected {_EXPECTED[layout]}. Received: {len(rest):,} other files")
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if layout == FOLDERS else VIDEO_SUFFIXES
    findings += [
        Disagreement("no_label", path, "outside every layout") for path in rest if _suffix(path) in suffixes
    ]
    videos = _grouped(findings)
    disagreements = [found for found in findings if isinstance(found, Disagreement)]
    disagreements += [*_duplicates(videos), *_divided_groups(videos)]
    if keep_unlabelled:
        unknown = [found for found in disagreements if found.kind in ("no_label", "contradictory_label")]
        videos += {found.path: Video(found.path, None, found.dataset) for found in unknown}.values()
    return Dataset(tuple(sorted(videos, key=lambda video: video.path)), tuple(disagreements))


# --- groups -------------------------------------------------------------------------------------------------------


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


def _grouped(findings: Iterable[_Finding]) -> list[Video]:
    with_sources = [found for found in findings if not isinstance(found, Disagreement)]
    components = _Components()
    for found in with_sources:
        components.join(found.sources)
    videos = [found for found in with_sources if isinstance(found, Video)]
    return [replace(video, group=components.name(video.sources[0])) for video in videos]


def _duplicates(videos: Iterable[Video]) -> Iterator[Disagreement]:
    """Yield the videos of official layouts that another file of the same name, label and making repeats."""
    first: dict[tuple[str | None, ...], str] = {}
    for video in videos:
        key = (video.dataset, video.label, video.method, video.compression, _stem(video.path))
        if key in first and video.dataset in (CELEB_DF, FACEFORENSICS, DFDC):
            yield Disagreement("duplicate_id", video.path, f"also at {first[key]}", video.dataset)
        first.setdefault(key, video.path)


def _divided_groups(videos: Iterable[Video]) -> Iterator[Disagreement]:
    splits: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for video in videos:
        splits[video.group or "", video.dataset][video.split or "none"] += 1
    for (group, dataset), counts in splits.items():
        if len(counts) > 1:
            detail = ", ".join(f"{count:,} {split}" for split, count in sorted(counts.items()))
            yield Disagreement("divided_group", group, detail, dataset)


# --- official names: the sources of a video, from its name --------------------------------------------------------

_CELEBRITY = {"real": re.compile(r"(id\d+)_\d+"), "fake": re.compile(r"(id\d+)_(id\d+)_\d+")}
"""Celeb-DF: the person in the footage, the person whose face was put there, the number of the footage."""
_SEQUENCE = {"real": re.compile(r"(\d{3})"), "fake": re.compile(r"(\d{3})_(\d{3})")}
"""FaceForensics++: the target sequence, the source sequence."""
_ACTOR = {"real": re.compile(r"(\d{2})__.+"), "fake": re.compile(r"(\d{2})_(\d{2})__.+")}
"""DeepFakeDetection in FaceForensics++: the actor in the footage, the actor whose face was put there, the scene."""


def _celebrities(name: str, label: str) -> tuple[str, ...]:
    found = _CELEBRITY[label].fullmatch(name)
    return found.groups() if found else ()


def _sequences(name: str, label: str) -> tuple[str, ...]:
    found, actors = _SEQUENCE[label].fullmatch(name), _ACTOR[label].fullmatch(name)
    if actors:
        return tuple(f"actor{number}" for number in actors.groups())
    return found.groups() if found else ()


def _in_dataset(dataset: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{dataset}:{name}" for name in names)


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _is_video(path: str) -> bool:
    return _suffix(path) in VIDEO_SUFFIXES


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _from_folder(path: str, names: Iterable[str]) -> list[str]:
    """Return the parts of `path` from the first folder that has one of `names`; empty if none has."""
    parts = path.split("/")
    return next((parts[start:] for start, part in enumerate(parts[:-1]) if part in names), [])


# --- Celeb-DF-v2 --------------------------------------------------------------------------------------------------

_CELEB_LABELS = {"Celeb-real": "real", "YouTube-real": "real", "Celeb-synthesis": "fake"}
_TESTING_LIST = "List_of_testing_videos.txt"


def _claim_celeb_df(tree: Tree) -> set[str]:
    return {path for path in tree.paths if _from_folder(path, _CELEB_LABELS)}


def _read_celeb_df(tree: Tree, claimed: Sequence[str]) -> Iterator[_Finding]:
    listed: dict[str, set[str]] = defaultdict(set)
    for where in [path for path in tree.texts if posixpath.basename(path) == _TESTING_LIST]:
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
    for path in filter(_is_video, claimed):
        yield _celeb_df_video(path, listed.get(path))


def _celeb_df_video(path: str, listed: set[str] | None) -> Video | Disagreement:
    """Return one video; `listed` are the labels that the testing list gives it."""
    folder, *rest = _from_folder(path, _CELEB_LABELS)
    label = _CELEB_LABELS[folder]
    if listed and listed != {label}:
        detail = f"{label} by its folder, not by {_TESTING_LIST}"
        return Disagreement("contradictory_label", path, detail, CELEB_DF)
    name = _stem(path)
    alone = (f"{folder}/{name}",) if name.isdecimal() else ()
    names = alone if folder == "YouTube-real" else _celebrities(name, label)
    if len(rest) != 1 or not names:
        return Disagreement("unknown_name", path, "", CELEB_DF)
    method = folder if label == "fake" else None
    split = "test" if listed else None
    return Video(path, label, CELEB_DF, _in_dataset(CELEB_DF, names), method=method, split=split)


# --- FaceForensics++ ----------------------------------------------------------------------------------------------

_SEQUENCE_LABELS = {"original_sequences": "real", "manipulated_sequences": "fake"}
_SPLITS = ("train", "val", "test")


def _claim_faceforensics(tree: Tree) -> set[str]:
    return {path for path in tree.paths if _from_folder(path, _SEQUENCE_LABELS)}


def _read_faceforensics(tree: Tree, claimed: Sequence[str]) -> Iterator[_Finding]:
    found = [_faceforensics_video(path) for path in claimed if _is_video(path) and not _is_mask(path)]
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
            sources = _in_dataset(FACEFORENSICS, pair)
            yield _Join(sources)
            for name, source in zip(pair, sources, strict=True):
                splits[source].add(places[where])
                if source not in seen:
                    yield Disagreement("missing_file", f"{name}.mp4", f"in {where}", FACEFORENSICS)
    complete = set().union(*splits.values()) == set(_SPLITS)
    for video in videos:
        found_splits = [splits.get(source, set()) for source in video.sources]
        yield from _with_official_split(video, found_splits, complete=complete)


def _is_mask(path: str) -> bool:
    return "masks" in _from_folder(path, _SEQUENCE_LABELS)[1:-1]


def _faceforensics_video(path: str) -> Video | Disagreement:
    parts = _from_folder(path, _SEQUENCE_LABELS)
    label = _SEQUENCE_LABELS[parts[0]]
    names = _sequences(_stem(path), label)
    if len(parts) != 5 or parts[3] != "videos" or not names:
        return Disagreement("unknown_name", path, "", FACEFORENSICS)
    method = parts[1] if label == "fake" else None
    sources = _in_dataset(FACEFORENSICS, names)
    return Video(path, label, FACEFORENSICS, sources, method=method, compression=parts[2])


def _split_files(paths: Iterable[str]) -> dict[str, str]:
    """Return every place where a split file may lie, and the split that it is; none without a dataset in `paths`."""
    tops = {path.removesuffix("/".join(_from_folder(path, _SEQUENCE_LABELS))) for path in paths}
    tops |= {""} if tops else set()
    folders = [top + below for top in tops for below in ("", "splits/", "dataset/splits/")]
    return {f"{folder}{split}.json": split for folder in folders for split in _SPLITS}


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


# --- DFDC ---------------------------------------------------------------------------------------------------------

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


def _claim_dfdc(tree: Tree) -> set[str]:
    parts = {posixpath.dirname(where): where for where in tree.texts if _dfdc_entries(tree, where)}
    inside = {path for path in tree.paths if posixpath.dirname(path) in parts and _is_video(path)}
    return inside | (set(parts.values()) & set(tree.paths))


def _read_dfdc(tree: Tree, claimed: Sequence[str]) -> Iterator[_Finding]:
    yield from _broken_metadata(tree)
    by_path: dict[str, list[_Entry]] = defaultdict(list)
    by_name: dict[str, list[_Entry]] = defaultdict(list)
    for where in sorted(tree.texts.keys() & set(claimed)):
        for entry in _dfdc_entries(tree, where):
            by_path[entry.path].append(entry)
            by_name[entry.name].append(entry)
    yield from _dfdc_joins(by_name)
    for path in sorted(by_path.keys() - set(tree.paths)):
        yield Disagreement("missing_file", path, f"in {by_path[path][0].where}", DFDC)
    for path in filter(_is_video, claimed):
        name = posixpath.basename(path)
        if path in by_path:
            yield from _dfdc_video(by_path[path], by_name[name])
        else:
            yield Disagreement("no_label", path, f"no entry in {_METADATA}", DFDC)


def _dfdc_entries(tree: Tree, where: str) -> list[_Entry]:
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
    return _Entry(path, where, _DFDC_LABELS.get(label.upper()), original or None, _SPLIT_NAMES.get(split))


def _broken_metadata(tree: Tree) -> Iterator[Disagreement]:
    """Yield the lists beside videos that are not JSON; others may be anybody's."""
    folders = {posixpath.dirname(path) for path in tree.paths if _is_video(path)}
    for where in tree.texts:
        if posixpath.basename(where) == _METADATA and posixpath.dirname(where) in folders:
            try:
                json.loads(tree.texts[where])
            except ValueError as error:
                yield Disagreement("unreadable_list", where, storage.one_line(error), DFDC)


def _dfdc_joins(by_name: Mapping[str, Sequence[_Entry]]) -> Iterator[_Join]:
    """Yield what belongs together beyond a fake and its original: an original that is itself a fake."""
    originals = {entry.original for entries in by_name.values() for entry in entries if entry.original}
    for name, entries in by_name.items():
        own = {entry.original for entry in entries if entry.original}
        if own and name in originals:
            yield _Join(_in_dataset(DFDC, map(_stem, {name, *own})))


def _dfdc_video(entries: Sequence[_Entry], namesakes: Sequence[_Entry]) -> Iterator[Video | Disagreement]:
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
    sources = _in_dataset(DFDC, map(_stem, originals or [path]))
    yield Video(path, label, DFDC, sources, split=splits.pop() if len(splits) == 1 else None)


# --- plain folders ------------------------------------------------------------------------------------------------

_SPLIT_NAMES = dict.fromkeys(("train", "training"), "train")
_SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")
_SPLIT_NAMES |= dict.fromkeys(("test", "testing"), "test")
_ID_FRAME = re.compile(r"(.+)_\d+")
_FRAME_ONLY = re.compile(r"(?:frame|image|img|face|crop)?[_-]?\d+", re.IGNORECASE)


def _labels_of(folders: Iterable[str]) -> list[str]:
    return [folder.lower() for folder in folders if folder.lower() in ("real", "fake")]


def _claim_folders(tree: Tree) -> set[str]:
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    return {path for path in tree.paths if _suffix(path) in suffixes and _labels_of(path.split("/")[:-1])}


def _read_folders(tree: Tree, claimed: Sequence[str]) -> Iterator[_Finding]:
    for path in claimed:
        folders = path.split("/")[:-1]
        labels = set(_labels_of(folders))
        splits = {_SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in _SPLIT_NAMES}
        if len(labels) > 1:
            yield Disagreement("contradictory_label", path, "below real/ and below fake/")
            continue
        label = labels.pop()
        plain = [folder for folder in folders if folder.lower() not in _SPLIT_NAMES]
        at = [folder.lower() for folder in plain].index(label)
        dataset = "/".join(plain[:at]) or tree.name
        if len(splits) > 1:
            yield Disagreement("contradictory_split", path, ", ".join(sorted(splits)), dataset)
        sources = _in_dataset(dataset, _folder_sources(path, label, plain[at + 1 :]))
        yield Video(path, label, dataset, sources, split=splits.pop() if len(splits) == 1 else None)


def _folder_sources(path: str, label: str, inner: Sequence[str]) -> tuple[str, ...]:
    """Return what a file's name says of its sources, at worst that it is its own.

    An image is called ID_FRAME, or by a frame number in a folder that is called ID; a video is called ID. An ID as in
    Celeb-DF or FaceForensics++ names its own sources.

    Args:
        path: Of the file.
        label: `real` or `fake`.
        inner: The folders between the one called `label` and the file.
    """
    name = _stem(path)
    if not _is_video(path) and not _celebrities(name, label):
        numbered = _ID_FRAME.fullmatch(name)
        if _FRAME_ONLY.fullmatch(name):
            name = inner[-1] if inner else name
        elif numbered:
            name = numbered[1]
    return _celebrities(name, label) or _sequences(name, label) or (name,)


_READERS = {
    CELEB_DF: (_claim_celeb_df, _read_celeb_df),
    FACEFORENSICS: (_claim_faceforensics, _read_faceforensics),
    DFDC: (_claim_dfdc, _read_dfdc),
    FOLDERS: (_claim_folders, _read_folders),
}
"""For each layout, in this order: the files that it answers for, and what it finds in them."""
_EXPECTED = {
    CELEB_DF: "Celeb-real/, Celeb-synthesis/ or YouTube-real/ (Celeb-DF-v2)",
    FACEFORENSICS: "original_sequences/ or manipulated_sequences/ (FaceForensics++)",
    DFDC: "a metadata.json with labels beside the videos (DFDC)",
    FOLDERS: "videos or images below folders called real/ and fake/",
}
_EXPECTED["auto"] = ", or ".join(_EXPECTED.values())


# --- files in, files out ------------------------------------------------------------------------------------------


def scan(root: str) -> Tree:
    """Return the files below `root`, a local folder or a remote one, and the text of the lists among them.

    Raises:
        ManifestError: `root` is no folder, or cannot be listed.
        RequestError: Its address has credentials in it, or no storage is known for it.
    """
    fs, top = storage.filesystem(root)
    faults: list[Disagreement] = []
    try:
        if fs.get_file_info(top).type != pafs.FileType.Directory:
            raise ManifestError(f"Expected a folder. Received: {storage.as_text(root)!r}")
        local = isinstance(fs, pafs.LocalFileSystem)
        paths = sorted(_walk(top, faults) if local else _walk_remote(fs, top, root, faults))
    except OSError as error:
        message = f"{storage.as_text(root)!r} cannot be listed: {storage.one_line(error)}"
        raise ManifestError(message) from error
    texts = {}
    splits = _split_files(path for path in paths if _from_folder(path, _SEQUENCE_LABELS))
    for path in paths:
        if posixpath.basename(path) in (_TESTING_LIST, _METADATA) or path in splits:
            try:
                texts[path] = storage.read_bytes(storage.join(root, path)).decode("utf-8-sig", "replace")
            except OSError as error:
                faults.append(Disagreement("unreadable_list", path, storage.one_line(error)))
    return Tree(posixpath.basename(top.rstrip("/")) or "root", tuple(paths), texts, tuple(faults))


def _walk(top: str, faults: list[Disagreement]) -> Iterator[str]:
    def unlisted(error: OSError) -> None:
        path = os.path.relpath(error.filename, top)
        faults.append(Disagreement("unlisted_folder", path, str(error.strerror)))

    for here, folders, names in os.walk(top, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = "" if here == top else os.path.relpath(here, top) + "/"
        for name in folders:
            if os.path.islink(os.path.join(here, name)):
                faults.append(Disagreement("unlisted_folder", below + name, "a link to a folder"))
        yield from (below + name for name in names if not name.startswith("."))


def _walk_remote(fs: pafs.FileSystem, top: str, root: str, faults: list[Disagreement]) -> Iterator[str]:
    for info in fs.get_file_info(pafs.FileSelector(top, recursive=True)):
        path = storage.below(info.path, top)
        if info.type != pafs.FileType.File or any(part.startswith(".") for part in path.split("/")):
            continue
        if storage.can_join(root, path):
            yield path
        else:
            faults.append(Disagreement("unlisted_file", path, storage.NO_ADDRESS))


def manifest_of(dataset: Dataset, root: str, out: str) -> pa.Table:
    """Return the manifest of `dataset` as a table of LABELLED.

    Args:
        dataset: What was read below `root`.
        root: The folder that the paths are relative to.
        out: Where the manifest will be. If that is inside a local `root`, or in a folder above it, the addresses are
            relative to the manifest's folder, so that both can be moved together; otherwise they are absolute.
    """
    names = [name for name in LABELLED.names if name not in ("uri", "video_id")]
    rows = []
    for video in dataset.videos:
        facts = {name: _text(getattr(video, name)) for name in names}
        rows.append({"uri": _uri(root, video.path, out), "video_id": _text(video.path), **facts})
    return to_table(rows, LABELLED)


def _text(value: str | None) -> str | None:
    return None if value is None else storage.as_text(value)


def _uri(root: str, path: str, out: str) -> str:
    whole = storage.join(root, path)
    if storage.is_remote(root):
        return whole
    top, folder = os.path.abspath(storage.local_path(root)), os.path.dirname(os.path.abspath(out))
    near = not storage.is_remote(out) and os.path.commonpath([top, folder]) in (top, folder)
    relative = os.path.relpath(os.path.join(top, path), folder)
    return relative if near and storage.is_text(relative) else storage.local_uri(whole)


def check_out(out: str) -> None:
    """Check that a manifest can be called `out`.

    Raises:
        OutputError: Its ending is none of a manifest's.
    """
    if _suffix(out) not in MANIFEST_SUFFIXES:
        endings = ", ".join(f".{suffix}" for suffix in MANIFEST_SUFFIXES)
        raise OutputError(f"Expected a manifest that ends in {endings}. Received: {storage.as_text(out)!r}")


def write_manifest(table: pa.Table, out: str) -> None:
    """Write `table` at `out`, as its ending says.

    Raises:
        OutputError: `out` cannot be written, or has another ending.
    """
    check_out(out)
    if _suffix(out) == "csv":
        content = table.to_pandas().to_csv(index=False, lineterminator="\n").encode()
    elif _suffix(out) == "jsonl":
        content = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    else:
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        content = buffer.getvalue()
    _write(out, content)


def write_report(dataset: Dataset, out: str) -> None:
    """Write every disagreement of `dataset` at `out`, as JSON.

    Raises:
        OutputError: `out` cannot be written.
    """
    names = Disagreement.__slots__
    found = [{name: _text(getattr(item, name)) for name in names} for item in dataset.disagreements]
    counts = Counter(item.kind for item in dataset.disagreements)
    report = {"num_videos": len(dataset.videos), "counts": counts, "disagreements": found}
    _write(out, json.dumps(report, indent=1).encode())


def _write(out: str, content: bytes) -> None:
    try:
        if not storage.is_remote(out):
            os.makedirs(os.path.dirname(os.path.abspath(storage.local_path(out))), exist_ok=True)
        storage.write_bytes(out, content)
    except OSError as error:
        raise OutputError(f"{storage.as_text(out)} cannot be written: {storage.one_line(error)}") from error
