"""The manifest and the report that a dataset becomes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from dfd_core.errors import OutputError
from dfd_core.sources.layouts.manifest import LABELLED, check_out, manifest_of, write_manifest, write_report
from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.scan import scan
from dfd_core.sources.videos import read_videos
from tests.dataset_trees import CELEB_FILES, make, read


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("place", ["outside", "inside", "above", "deep inside"])
def test_the_manifest_is_read_as_the_folder_is(tmp_path: Path, suffix: str, place: str) -> None:
    root = make(
        tmp_path / "top" / "data", "train/real/a, b.mp4", 'train/fake/new\nline"é.mp4', "real/%20 #?.mp4"
    )
    out = {
        "outside": tmp_path / "elsewhere" / "new",
        "inside": root,
        "above": tmp_path / "top",
        "deep inside": root / "train" / "lists",
    }[place] / f"m.{suffix}"
    table = manifest_of(read(root), str(root), str(out))
    assert table.schema.equals(LABELLED)
    write_manifest(table, str(out))
    source = read_videos(str(out)).table
    folder = read_videos(str(root)).table
    facts = {row["video_id"]: row["uri"] for row in source.to_pylist()}
    assert facts == {row["video_id"]: row["uri"] for row in folder.to_pylist()}
    assert dict(zip(facts, source.column("label").to_pylist(), strict=True)) == {
        "real/%20 #?.mp4": "real",
        'train/fake/new\nline"é.mp4': "fake",
        "train/real/a, b.mp4": "real",
    }
    assert all(Path(uri).is_file() for uri in facts.values())
    assert all(Path(uri).is_absolute() for uri in table.column("uri").to_pylist()) == (place == "outside")


def test_a_tree_with_its_manifest_can_be_moved(tmp_path: Path) -> None:
    root = make(tmp_path / "old", *CELEB_FILES)
    write_manifest(manifest_of(read(root), str(root), str(root / "m.csv")), str(root / "m.csv"))
    root.rename(tmp_path / "new")
    uris = read_videos(str(tmp_path / "new" / "m.csv")).table.column("uri").to_pylist()
    assert set(uris) == {str(tmp_path / "new" / path) for path in CELEB_FILES}


def test_unknown_values_are_null(tmp_path: Path) -> None:
    root = make(tmp_path, "real/a.mp4", "b.mp4")
    dataset = read(root, keep_unlabelled=True)
    rows = manifest_of(dataset, str(root), "/elsewhere/m.parquet").to_pylist()
    assert rows[0] == {
        "uri": str(root / "b.mp4"),
        "video_id": "b.mp4",
        **dict.fromkeys(("label", "group", "dataset", "method", "compression", "split")),
    }


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    with open(os.fsencode(str(tmp_path / "real")) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"abc")
    out = str(tmp_path / "m.parquet")
    write_manifest(manifest_of(read(tmp_path), str(tmp_path), out), out)
    from dfd_core.video.opening import open_video

    table = read_videos(out).table
    assert table.column("video_id").to_pylist() == ["real/caf%E9.mp4"]
    assert table.column("group").to_pylist() == [f"{tmp_path.name}:caf%E9"]
    with open_video(table.column("uri")[0].as_py()) as video:
        assert video.read() == b"abc"


def test_a_remote_tree_has_absolute_addresses() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    for name in ("Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4", ".git/real/x.mp4"):
        fs.pipe(f"/layouts/{name}", b"x")
    fs.pipe("/layouts/List_of_testing_videos.txt", b"1 Celeb-real/id0_0000.mp4\n")
    dataset = read_tree(scan("memory://layouts"))
    rows = manifest_of(dataset, "memory://layouts", "memory://layouts/m.csv").to_pylist()
    assert [(row["uri"], row["split"]) for row in rows] == [
        ("memory://layouts/Celeb-real/id0_0000.mp4", "test"),
        ("memory://layouts/Celeb-synthesis/id0_id1_0000.mp4", None),
    ]


def test_the_report_lists_every_disagreement(tmp_path: Path) -> None:
    dataset = read(make(tmp_path, "real/a.mp4", "b.mp4", "c.mp4"))
    write_report(dataset, str(tmp_path / "new" / "report.json"))
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert report["counts"] == {"no_label": 2}
    assert [item["path"] for item in report["disagreements"]] == ["b.mp4", "c.mp4"]


@pytest.mark.parametrize("out", ["m.txt", "m", "folder/"])
def test_a_manifest_of_another_ending_is_refused(out: str) -> None:
    with pytest.raises(OutputError, match="ends in"):
        check_out(out)


def test_a_manifest_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_manifest(pa.table({"uri": ["a"]}), str(tmp_path / "file" / "m.csv"))
