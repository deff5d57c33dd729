"""DFDC: labels and originals from metadata.json."""

from __future__ import annotations

import json
from pathlib import Path

from tests.dataset_trees import by_path, found, make, metadata, read


def test_dfdc_has_labels_from_metadata_and_groups_by_original_even_if_that_is_not_there(
    tmp_path: Path,
) -> None:
    make(
        tmp_path,
        *(f"dfdc/part_0/{name}.mp4" for name in ("real", "fake", "other")),
        "dfdc/deep/er/part_1/more.mp4",
        dfdc__part_0__metadata_json=metadata(
            real=("REAL", None), fake=("FAKE", "real.mp4"), other=("FAKE", "gone.mp4")
        ),
        dfdc__deep__er__part_1__metadata_json=metadata(more=("FAKE", "gone.mp4")),
    )
    dataset = read(tmp_path)
    assert {(Path(v.path).stem, v.label, v.group, v.dataset, v.split) for v in dataset.videos} == {
        ("real", "real", "dfdc:real", "dfdc", "train"),
        ("fake", "fake", "dfdc:real", "dfdc", "train"),
        ("other", "fake", "dfdc:gone", "dfdc", "train"),
        ("more", "fake", "dfdc:gone", "dfdc", "train"),
    }
    assert found(dataset) == []


def test_dfdc_s_disagreements_are_reported_and_never_guessed(tmp_path: Path) -> None:
    names = ("good", "unlisted", "odd", "orphan", "both", "twice")
    make(
        tmp_path,
        *(f"a/{name}.mp4" for name in names),
        "b/both.mp4",
        "b/good.mp4",
        "c/v.mp4",
        "d/v.mp4",
        "d/readme.txt",
    )
    entries = json.loads(
        metadata(
            good=("REAL", None),
            odd=("MAYBE", None),
            orphan=("FAKE", None),
            both=("REAL", None),
            gone=("REAL", None),
        )
    )
    text = (
        json.dumps(entries)[:-1] + ', "twice.mp4": {"label": "REAL"}, "twice.mp4": {"label": "FAKE"}, "x": 3}'
    )
    (tmp_path / "a" / "metadata.json").write_text(text)
    (tmp_path / "b" / "metadata.json").write_text(metadata(both=("FAKE", "good.mp4"), good=("REAL", None)))
    (tmp_path / "c" / "metadata.json").write_text("{")
    (tmp_path / "d" / "metadata.json").write_text('{"title": "somebody else\'s"}')
    dataset = read(tmp_path)
    assert found(dataset) == [
        ("contradictory_label", "a/both.mp4"),
        ("contradictory_label", "a/twice.mp4"),
        ("contradictory_label", "b/both.mp4"),
        ("duplicate_id", "b/good.mp4"),
        ("missing_file", "a/gone.mp4"),
        ("missing_file", "a/x"),
        ("no_label", "a/odd.mp4"),
        ("no_label", "a/unlisted.mp4"),
        ("no_label", "c/v.mp4"),
        ("no_label", "d/v.mp4"),
        ("no_source", "a/orphan.mp4"),
        ("unreadable_list", "c/metadata.json"),
    ]
    assert by_path(dataset).keys() == {"a/good.mp4", "a/orphan.mp4", "b/good.mp4"}
    kept = [video for video in read(tmp_path, keep_unlabelled=True).videos if video.label is None]
    assert [video.path for video in kept] == [
        *("a/both.mp4", "a/odd.mp4", "a/twice.mp4", "a/unlisted.mp4", "b/both.mp4", "c/v.mp4", "d/v.mp4")
    ]
    assert {video.group for video in kept} == {None}


def test_a_dfdc_original_that_is_a_fake_itself_joins_both(tmp_path: Path) -> None:
    text = metadata(z=("REAL", None), y=("FAKE", "z.mp4"), x=("FAKE", "y.mp4"))
    dataset = read(make(tmp_path, "p/x.mp4", "p/y.mp4", "p/z.mp4", p__metadata_json=text))
    assert len({video.group for video in dataset.videos}) == 1
