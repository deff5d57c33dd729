"""Celeb-DF-v2: labels, groups of persons and the list of testing videos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.tree import Tree
from tests.dataset_trees import CELEB_FILES, by_path, found, make, read


def test_celeb_df_has_labels_and_groups_of_persons(tmp_path: Path) -> None:
    dataset = read(make(tmp_path, *CELEB_FILES))
    videos = by_path(dataset)
    assert {path: video.label for path, video in videos.items()} == {
        path: "fake" if "synthesis" in path else "real" for path in CELEB_FILES
    }
    assert {path: video.group for path, video in videos.items()} == {
        "Celeb-real/id0_0000.mp4": "celeb-df-v2:id0",
        "Celeb-real/id1_0003.mp4": "celeb-df-v2:id0",
        "Celeb-real/id10_0000.mp4": "celeb-df-v2:id10",
        "Celeb-synthesis/id0_id1_0000.mp4": "celeb-df-v2:id0",
        "YouTube-real/00000.mp4": "celeb-df-v2:YouTube-real/00000",
        "YouTube-real/00170.mp4": "celeb-df-v2:YouTube-real/00170",
    }
    assert {video.method for video in dataset.videos if video.label == "fake"} == {"Celeb-synthesis"}
    assert {video.split for video in dataset.videos} == {None}
    assert found(dataset) == []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_celeb_df_s_testing_list_says_1_for_real_and_has_no_header(tmp_path: Path, newline: str) -> None:
    make(tmp_path, *CELEB_FILES)
    lines = [
        "1 YouTube-real/00170.mp4",
        "1 Celeb-real/id10_0000.mp4",
        "0 Celeb-synthesis/id0_id1_0000.mp4",
        "",
    ]
    (tmp_path / "List_of_testing_videos.txt").write_bytes(newline.join(lines).encode())
    dataset = read(tmp_path)
    assert {video.path for video in dataset.videos if video.split == "test"} == {
        line[2:] for line in lines if line
    }
    assert found(dataset) == [("divided_group", "celeb-df-v2:id0")]


def test_celeb_df_s_disagreements_are_reported_and_never_guessed(tmp_path: Path) -> None:
    make(
        tmp_path, *CELEB_FILES, "Celeb-real/me.mp4", "Celeb-real/old/id0_0000.mp4", "Celeb-real/id1_0003.avi"
    )
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "label path\n0 YouTube-real/00170.mp4\n1 YouTube-real/00999.mp4\n1 Celeb-real/id10_0000.mp4\n"
    )
    dataset = read(tmp_path)
    assert found(dataset) == [
        ("contradictory_label", "YouTube-real/00170.mp4"),
        ("duplicate_id", "Celeb-real/id1_0003.mp4"),
        ("missing_file", "YouTube-real/00999.mp4"),
        ("unknown_name", "Celeb-real/me.mp4"),
        ("unknown_name", "Celeb-real/old/id0_0000.mp4"),
        ("unreadable_list", "List_of_testing_videos.txt"),
    ]
    assert len(dataset.videos) == len(CELEB_FILES)
    assert "YouTube-real/00170.mp4" not in by_path(dataset)
    kept = by_path(read(tmp_path, keep_unlabelled=True))["YouTube-real/00170.mp4"]
    assert (kept.label, kept.group, kept.dataset) == (None, None, "celeb-df-v2")


def celeb_df_of_official_size() -> tuple[str, ...]:
    """Return paths of Celeb-DF-v2's numbers: 590 real videos of 59 persons, 5,639 fakes, 300 YouTube videos.

    Persons are swapped within the blocks that the 340 fakes of the official testing list connect, and three more.
    """
    blocks = [
        [*range(7), 8, 9, 16, 17, *range(19, 39)],
        [7, 10, 11, 12, 13],
        [*range(39, 49)],
        [*range(49, 59)],
        [59, 60, 61],
    ]
    persons = [person for block in blocks for person in block]
    real = [f"Celeb-real/id{person}_{number:04d}.mp4" for person in persons for number in range(10)]
    fake = [
        f"Celeb-synthesis/id{target}_id{source}_{number:04d}.mp4"
        for number in range(10)
        for block in blocks
        for target in block
        for source in block
        if target != source
    ]
    youtube = [f"YouTube-real/{number:05d}.mp4" for number in range(300)]
    assert (len(persons), len(real)) == (59, 590)
    return tuple(sorted([*real, *fake[:5639], *youtube]))


def test_celeb_df_collapses_into_few_groups_as_the_documentation_says() -> None:
    dataset = read_tree(Tree("Celeb-DF-v2", celeb_df_of_official_size()))
    groups = Counter(video.group for video in dataset.videos)
    of_persons = [group for group in groups if "YouTube" not in str(group)]
    assert (len(dataset.videos), len(groups), len(of_persons)) == (6529, 305, 5)
    largest, count = groups.most_common(1)[0]
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    assert largest == "celeb-df-v2:id0"
    assert f"holds {count:,} of 6,529" in text
