"""Plain folders called real/ and fake/."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.tree import Tree
from tests.dataset_trees import found, make, read


def test_folders_label_what_is_below_real_and_fake_at_any_depth(tmp_path: Path) -> None:
    make(
        tmp_path / "mine",
        *(
            "real/a.mp4",
            "FAKE/deep/er/b.mkv",
            "set/train/real/c.mp4",
            "set/Validation/fake/c.mp4",
            "set/test/fake/d.webm",
        ),
    )
    dataset = read(tmp_path / "mine")
    assert {(v.path, v.label, v.dataset, v.split, v.group) for v in dataset.videos} == {
        ("real/a.mp4", "real", "mine", None, "mine:a"),
        ("FAKE/deep/er/b.mkv", "fake", "mine", None, "mine:b"),
        ("set/train/real/c.mp4", "real", "set", "train", "set:c"),
        ("set/Validation/fake/c.mp4", "fake", "set", "val", "set:c"),
        ("set/test/fake/d.webm", "fake", "set", "test", "set:d"),
    }
    assert found(dataset) == [("divided_group", "set:c")]


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("real/talk_12.png", "talk"),
        ("real/a_talk_12.jpg", "a_talk"),
        ("real/0012.png", "0012"),
        ("real/someone/0012.png", "someone"),
        ("fake/method/someone/frame_0012.png", "someone"),
        ("fake/portrait.jpeg", "portrait"),
        ("real/talk_12.mp4", "talk_12"),
        ("real/id0_0000_26.png", "id0"),
        ("fake/id0_id1_0000_26.png", "id0"),
        ("fake/id0_id1_0000.mp4", "id0"),
        ("real/004_982.mp4", "004_982"),
        ("fake/982_004_7.png", "004"),
        ("fake/7_12.png", "7"),
        ("fake/02_01__hall__XYZ_7.png", "actor01"),
    ],
)
def test_in_folders_the_group_comes_from_the_name(path: str, group: str) -> None:
    assert [video.group for video in read_tree(Tree("d", (path,))).videos] == [f"d:{group}"]


def test_the_seed_s_tree_of_faces_joins_a_fake_with_its_sources() -> None:
    paths = ("fake/id0_id1_0000_26.png", "real/id0_0003_0.png", "real/id1_0000_52.png", "real/id2_0000_0.png")
    assert [v.group for v in read_tree(Tree("d", paths)).videos] == ["d:id0", "d:id0", "d:id0", "d:id2"]


def test_folders_disagreements_are_reported(tmp_path: Path) -> None:
    make(
        tmp_path, "real/a.mp4", "real/fake/b.mp4", "train/real/test/c.mp4", "d.mp4", "cover.png", "notes.txt"
    )
    dataset = read(tmp_path, "folders")
    assert found(dataset) == [
        ("contradictory_label", "real/fake/b.mp4"),
        ("contradictory_split", "train/real/test/c.mp4"),
        ("no_label", "cover.png"),
        ("no_label", "d.mp4"),
    ]
    assert ("no_label", "cover.png") not in found(read(tmp_path))
