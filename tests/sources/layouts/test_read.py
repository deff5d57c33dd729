"""Datasets side by side, and groups that never part a fake from its sources."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.errors import ManifestError
from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.tree import Tree, Video
from tests.dataset_trees import (
    CELEB_FILES,
    FF_FILES,
    MANIPULATED,
    ORIGINAL,
    by_path,
    check_groups,
    found,
    make,
    metadata,
    read,
)


def everything(root: Path) -> Path:
    make(root / "celeb", *CELEB_FILES)
    make(root / "ff", *FF_FILES)
    make(root / "dfdc" / "part", "v.mp4", metadata_json=metadata(v=("FAKE", "w.mp4")))
    make(root / "mine" / "real", "x.mp4")
    return make(root, "stray/y.mp4", ".hidden/real/z.mp4", "mine/real/.z.mp4")


def test_auto_reads_datasets_side_by_side(tmp_path: Path) -> None:
    dataset = read(everything(tmp_path))
    assert Counter(video.dataset for video in dataset.videos) == {
        "celeb-df-v2": len(CELEB_FILES),
        "faceforensics": len(FF_FILES),
        "dfdc": 1,
        "mine": 1,
    }
    assert found(dataset) == [("no_label", "stray/y.mp4")]
    with_stray = by_path(read(tmp_path, keep_unlabelled=True))["stray/y.mp4"]
    assert (with_stray.label, with_stray.dataset) == (None, None)


def test_a_named_layout_reads_no_other(tmp_path: Path) -> None:
    dataset = read(everything(tmp_path), "dfdc")
    assert [video.path for video in dataset.videos] == ["dfdc/part/v.mp4"]
    assert {kind for kind, _ in found(dataset)} == {"no_label"}


@pytest.mark.parametrize("layout", ["auto", "celeb-df-v2", "faceforensics", "dfdc", "folders"])
def test_a_tree_without_the_layout_is_refused_saying_what_was_expected(tmp_path: Path, layout: str) -> None:
    make(tmp_path, "a.mp4", "b/metadata.json")
    with pytest.raises(ManifestError, match=r"Expected .* Received: 2 other files"):
        read(tmp_path, layout)


NUMBERS = st.integers(0, 12)
CELEB_TREES = st.lists(
    st.one_of(
        st.builds("Celeb-real/id{}_{:04d}.mp4".format, NUMBERS, NUMBERS),
        st.builds("Celeb-synthesis/id{}_id{}_{:04d}.mp4".format, NUMBERS, NUMBERS, NUMBERS),
    )
)
METHODS = st.sampled_from(["Deepfakes", "Face2Face"])
FF_TREES = st.lists(
    st.one_of(
        st.builds((ORIGINAL + "/youtube/c23/videos/{:03d}.mp4").format, NUMBERS),
        st.builds((MANIPULATED + "/{}/c40/videos/{:03d}_{:03d}.mp4").format, METHODS, NUMBERS, NUMBERS),
        st.builds((ORIGINAL + "/actors/raw/videos/{:02d}__hall.mp4").format, NUMBERS),
        st.builds(
            (MANIPULATED + "/DeepFakeDetection/raw/videos/{:02d}_{:02d}__hall__X.mp4").format,
            NUMBERS,
            NUMBERS,
        ),
    )
)


def check_fakes_are_with_their_sources(videos: tuple[Video, ...]) -> None:
    """Check by the names alone that a fake A_B_… has the group of every real video A_… and B_…."""
    groups: dict[tuple[bool, str], set[str | None]] = {}
    for video in videos:
        name = Path(video.path).stem
        of = name.split("_")[: 2 if video.label == "fake" else 1]
        for source in of:
            groups.setdefault(("__" in name, source), set()).add(video.group)
    assert all(len(of_source) == 1 for of_source in groups.values())


@given(CELEB_TREES, FF_TREES, st.lists(st.tuples(NUMBERS, NUMBERS)), st.randoms())
def test_no_fake_is_in_another_group_than_its_sources(celeb, ff, pairs, rng) -> None:
    texts = {"train.json": json.dumps([[f"{a:03d}", f"{b:03d}"] for a, b in pairs])}
    paths = [*{*celeb, *ff}]
    rng.shuffle(paths)
    if not paths:
        return
    dataset = read_tree(Tree("d", (*paths, "train.json"), texts))
    assert len(dataset.videos) == len(paths)
    check_groups(dataset.videos)
    check_fakes_are_with_their_sources(dataset.videos)
    again = read_tree(Tree("d", ("train.json", *sorted(paths)), texts))
    assert again.videos == dataset.videos


@given(CELEB_TREES, FF_TREES, NUMBERS)
def test_no_fake_face_in_a_plain_folder_is_in_another_group_than_its_sources(celeb, ff, frame) -> None:
    labels = {True: "fake", False: "real"}
    paths = {
        f"{labels['synthesis' in path or MANIPULATED in path]}/{Path(path).stem}_{frame}.png"
        for path in celeb + ff
    }
    if paths:
        check_fakes_are_with_their_sources(read_tree(Tree("d", tuple(paths))).videos)


@given(st.dictionaries(NUMBERS, st.one_of(st.none(), NUMBERS)), st.sets(NUMBERS))
def test_no_dfdc_fake_is_in_another_group_than_its_original(originals, present) -> None:
    entries = {
        f"{name}.mp4": {"label": "REAL"}
        if original is None
        else {"label": "FAKE", "original": f"{original}.mp4"}
        for name, original in originals.items()
    }
    paths = ("p/metadata.json", *(f"p/{name}.mp4" for name in present))
    tree = Tree("d", paths, {"p/metadata.json": json.dumps(entries)})
    if not entries:
        return
    dataset = read_tree(tree)
    check_groups(dataset.videos)
    groups = {int(Path(video.path).stem): video.group for video in dataset.videos}
    assert groups.keys() == present & originals.keys()
    for name, group in groups.items():
        original = originals[name]
        assert original not in groups or groups[original] == group


@pytest.mark.real
def test_the_real_archive_is_labelled_as_its_description_says(real_data: Path) -> None:
    dataset = read(real_data / "archive")
    kinds = Counter((v.dataset, v.method, v.compression, v.label) for v in dataset.videos)
    assert kinds == {
        ("dfdc", None, None, "fake"): 3,
        ("faceforensics", None, "c23", "real"): 3,
        ("faceforensics", None, "c40", "real"): 6 + 4,
        **{
            ("faceforensics", m, "c23", "fake"): 1
            for m in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
        },
        **{
            ("faceforensics", m, "c40", "fake"): 6
            for m in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
        },
    }
    assert found(dataset) == [
        ("missing_file", "dfdc/dfdc_train_part_0/awnfpubqmo.mp4"),
        ("no_label", "dfdc_unlabelled/lynaeydofd.mp4"),
    ]
    check_groups(dataset.videos)
    groups = {Path(video.path).stem: video.group for video in dataset.videos}
    assert groups["720"] == groups["672"] == groups["720_672"] == groups["672_720"] == "faceforensics:672"
    assert groups["519"] == groups["519_515"] == "faceforensics:515"
    assert groups["brtujopkby"] == "dfdc:gnmmhlbzge"
    assert groups["01__kitchen_pan"] == "faceforensics:actor01"
