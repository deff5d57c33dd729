"""FaceForensics++: labels, methods, groups and the official splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dataset_trees import FF_FILES, MANIPULATED, ORIGINAL, by_path, found, make, read


def test_faceforensics_has_labels_methods_compressions_and_groups(tmp_path: Path) -> None:
    masks = (
        f"{MANIPULATED}/Deepfakes/masks/videos/000_003.mp4",
        f"{MANIPULATED}/DeepFakeDetection/masks/videos/01_02__kitchen_pan__ABCD1234.mp4",
        f"{MANIPULATED}/Face2Face/c23/images/000_003/0001.png",
    )
    dataset = read(make(tmp_path, *FF_FILES, *masks))
    facts = {(v.path, v.label, v.method, v.compression) for v in dataset.videos}
    assert facts == {
        (path, label, path.split("/")[1] if label == "fake" else None, path.split("/")[2])
        for path in FF_FILES
        for label in ["real" if path.startswith(ORIGINAL) else "fake"]
    }
    groups = {Path(path).stem: video.group for path, video in by_path(dataset).items()}
    assert groups == {
        "000": "faceforensics:000",
        "003": "faceforensics:000",
        "000_003": "faceforensics:000",
        "003_000": "faceforensics:000",
        "010": "faceforensics:010",
        "720": "faceforensics:672",
        "720_672": "faceforensics:672",
        "01__kitchen_pan": "faceforensics:actor01",
        "01_02__kitchen_pan__ABCD1234": "faceforensics:actor01",
    }
    assert found(dataset) == []


@pytest.mark.parametrize("place", [".", "splits", "dataset/splits"])
def test_faceforensics_official_splits_are_read_and_pair_the_originals(tmp_path: Path, place: str) -> None:
    root = make(tmp_path / "ff", *FF_FILES) / place
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.json").write_text('[["000", "003"]]')
    (root / "val.json").write_text('[["720", "672"]]')
    (root / "test.json").write_text('[["010", "953"]]')
    dataset = read(tmp_path)
    splits = {Path(path).stem: video.split for path, video in by_path(dataset).items()}
    assert splits["000"] == splits["003_000"] == "train"
    assert splits["720_672"] == splits["720"] == "val"
    assert splits["010"] == "test"
    assert splits["01__kitchen_pan"] is None
    assert {video.group for video in dataset.videos if video.split == "test"} == {"faceforensics:010"}
    assert found(dataset) == [("missing_file", "953.mp4")]


def test_somebody_else_s_split_files_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path, "real/a.mp4")
    (tmp_path / "train.json").write_text('[["000", "003"]]')
    assert found(read(tmp_path)) == []


def test_faceforensics_disagreements_are_reported(tmp_path: Path) -> None:
    odd = (
        f"{MANIPULATED}/Deepfakes/c23/videos/000_010.mp4",
        f"{MANIPULATED}/Deepfakes/c23/000_003.mp4",
        f"{ORIGINAL}/youtube/c23/videos/000_003.mp4",
        f"{ORIGINAL}/youtube/c23/videos/000.avi",
        f"{ORIGINAL}/youtube/c23/videos/555.mp4",
    )
    make(tmp_path, *FF_FILES, *odd)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.json").write_text('[["000", "003"]]')
    (tmp_path / "splits" / "val.json").write_text('[["720", "672"]]')
    (tmp_path / "splits" / "test.json").write_text('[["010", "720"]]')
    (tmp_path / "test.json").write_text('{"images": []}')
    dataset = read(tmp_path)
    assert found(dataset) == [
        ("contradictory_split", f"{MANIPULATED}/Deepfakes/c23/videos/000_010.mp4"),
        ("contradictory_split", f"{MANIPULATED}/NeuralTextures/raw/videos/720_672.mp4"),
        ("contradictory_split", f"{ORIGINAL}/youtube/c23/videos/720.mp4"),
        ("divided_group", "faceforensics:000"),
        ("duplicate_id", f"{ORIGINAL}/youtube/c23/videos/000.mp4"),
        ("no_split", f"{ORIGINAL}/youtube/c23/videos/555.mp4"),
        ("unknown_name", f"{MANIPULATED}/Deepfakes/c23/000_003.mp4"),
        ("unknown_name", f"{ORIGINAL}/youtube/c23/videos/000_003.mp4"),
        ("unreadable_list", "test.json"),
    ]
    videos = by_path(dataset)
    assert videos[f"{ORIGINAL}/youtube/c23/videos/720.mp4"].split is None
    assert videos[f"{ORIGINAL}/youtube/c23/videos/000.avi"].label == "real"
