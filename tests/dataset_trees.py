"""Datasets in their official layouts as trees of empty files."""

from __future__ import annotations

import json
from pathlib import Path

from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.scan import scan
from dfd_core.sources.layouts.tree import KINDS, Dataset, Video

CELEB_FILES = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0003.mp4",
    "Celeb-real/id10_0000.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00170.mp4",
)


ORIGINAL, MANIPULATED = "original_sequences", "manipulated_sequences"
FF_FILES = (
    *(f"{ORIGINAL}/youtube/c23/videos/{name}.mp4" for name in ("000", "003", "010", "720")),
    f"{ORIGINAL}/youtube/raw/videos/000.mp4",
    f"{ORIGINAL}/actors/c23/videos/01__kitchen_pan.mp4",
    f"{MANIPULATED}/Deepfakes/c23/videos/000_003.mp4",
    f"{MANIPULATED}/FaceShifter/c40/videos/003_000.mp4",
    f"{MANIPULATED}/NeuralTextures/raw/videos/720_672.mp4",
    f"{MANIPULATED}/DeepFakeDetection/c23/videos/01_02__kitchen_pan__ABCD1234.mp4",
)


def make(root: Path, *files: str, **texts: str) -> Path:
    """Write empty `files` below `root`, and `texts` into files whose names have `__` for `/` and `_json` for `.json`."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_json", ".json").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(root: Path, layout: str = "auto", *, keep_unlabelled: bool = False) -> Dataset:
    return read_tree(scan(str(root)), layout, keep_unlabelled=keep_unlabelled)


def by_path(dataset: Dataset) -> dict[str, Video]:
    return {video.path: video for video in dataset.videos}


def found(dataset: Dataset) -> list[tuple[str, str]]:
    assert {item.kind for item in dataset.disagreements} <= KINDS.keys()
    return sorted((item.kind, item.path) for item in dataset.disagreements)


def metadata(**entries: tuple[str, str | None]) -> str:
    return json.dumps(
        {
            f"{name}.mp4": {"label": label, "split": "train", "original": original}
            for name, (label, original) in entries.items()
        }
    )


def check_groups(videos: tuple[Video, ...]) -> None:
    """Check that videos which share a source share the group."""
    groups: dict[str, set[str | None]] = {}
    for video in videos:
        for source in video.sources:
            groups.setdefault(source, set()).add(video.group)
    assert all(len(of_source) == 1 for of_source in groups.values())
