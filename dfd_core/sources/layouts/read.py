"""A tree of files → its videos, their labels, groups and splits, by every layout that is found in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dfd_core.errors import ManifestError
from dfd_core.sources.layouts import celeb_df, dfdc, faceforensics, folders
from dfd_core.sources.layouts.groups import divided_groups, duplicates, grouped
from dfd_core.sources.layouts.tree import (
    CELEB_DF,
    DFDC,
    FACEFORENSICS,
    FOLDERS,
    LAYOUTS,
    Dataset,
    Disagreement,
    Finding,
    Tree,
    Video,
)
from dfd_core.sources.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, suffix_of

_Claim = Callable[[Tree], set[str]]
_Read = Callable[[Tree, Sequence[str]], Iterable[Finding]]
_READERS: dict[str, tuple[_Claim, _Read]] = {
    CELEB_DF: (celeb_df.claim, celeb_df.read),
    FACEFORENSICS: (faceforensics.claim, faceforensics.read),
    DFDC: (dfdc.claim, dfdc.read),
    FOLDERS: (folders.claim, folders.read),
}
"""For each layout, in this order: the files that it answers for, and what it finds in them."""
_EXPECTED = {
    CELEB_DF: "Celeb-real/, Celeb-synthesis/ or YouTube-real/ (Celeb-DF-v2)",
    FACEFORENSICS: "original_sequences/ or manipulated_sequences/ (FaceForensics++)",
    DFDC: "a metadata.json with labels beside the videos (DFDC)",
    FOLDERS: "videos or images below folders called real/ and fake/",
}
_EXPECTED["auto"] = ", or ".join(_EXPECTED.values())


def read_tree(tree: Tree, layout: str = "auto", *, keep_unlabelled: bool = False) -> Dataset:
    """Return the videos of `tree` with what its layout says of them.

    Args:
        tree: Its files.
        layout: One of `LAYOUTS`, or `auto` for every layout that is found in the tree.
        keep_unlabelled: Keep videos whose label is unknown or contradictory, with a null label and group.

    Raises:
        ManifestError: The layout is not found in the tree.
    """
    findings: list[Finding] = list(tree.faults)
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
        Disagreement("no_label", path, "outside every layout") for path in rest if suffix_of(path) in suffixes
    ]
    videos = grouped(findings)
    disagreements = [found for found in findings if isinstance(found, Disagreement)]
    disagreements += [*duplicates(videos), *divided_groups(videos)]
    if keep_unlabelled:
        unknown = [found for found in disagreements if found.kind in ("no_label", "contradictory_label")]
        videos += {found.path: Video(found.path, None, found.dataset) for found in unknown}.values()
    return Dataset(tuple(sorted(videos, key=lambda video: video.path)), tuple(disagreements))
