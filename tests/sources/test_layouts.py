"""Labels, groups and splits of each dataset's official layout, on generated trees and on the real archive."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.errors import ManifestError, OutputError, RequestError
from dfd_core.sources.layouts import (
    KINDS,
    LABELLED,
    Dataset,
    Tree,
    Video,
    check_out,
    manifest_of,
    read_tree,
    scan,
    write_manifest,
    write_report,
)
from dfd_core.sources.manifest import read_source


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


# --- Celeb-DF-v2 --------------------------------------------------------------------------------------------------

CELEB_FILES = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0003.mp4",
    "Celeb-real/id10_0000.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00170.mp4",
)


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
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert largest == "celeb-df-v2:id0"
    assert f"holds {count:,} of 6,529" in text


# --- FaceForensics++ ----------------------------------------------------------------------------------------------

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


# --- DFDC ---------------------------------------------------------------------------------------------------------


def metadata(**entries: tuple[str, str | None]) -> str:
    return json.dumps(
        {
            f"{name}.mp4": {"label": label, "split": "train", "original": original}
            for name, (label, original) in entries.items()
        }
    )


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


# --- plain folders ------------------------------------------------------------------------------------------------


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


# --- any layout ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("make_root", [lambda d: d / "nothing", lambda d: d / "file.txt"])
def test_what_is_no_folder_is_refused(tmp_path: Path, make_root) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(ManifestError, match="Expected a folder"):
        scan(str(make_root(tmp_path)))


def test_an_address_with_credentials_is_refused() -> None:
    with pytest.raises(RequestError) as refusal:
        scan("s3://AKIA:hunter2@bucket/x")
    assert "hunter2" not in str(refusal.value)


def test_links_to_folders_are_reported_and_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "tree", "real/a.mp4")
    make(tmp_path / "elsewhere", "real/b.mp4")
    (tmp_path / "tree" / "more").symlink_to(tmp_path / "elsewhere")
    dataset = read(tmp_path / "tree")
    assert found(dataset) == [("unlisted_folder", "more")]


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


def check_groups(videos: tuple[Video, ...]) -> None:
    """Check that videos which share a source share the group."""
    groups: dict[str, set[str | None]] = {}
    for video in videos:
        for source in video.sources:
            groups.setdefault(source, set()).add(video.group)
    assert all(len(of_source) == 1 for of_source in groups.values())


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


# --- the manifest -------------------------------------------------------------------------------------------------


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
    source = read_source(str(out)).table
    folder = read_source(str(root)).table
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
    uris = read_source(str(tmp_path / "new" / "m.csv")).table.column("uri").to_pylist()
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
    from dfd_core.storage.address import open_video

    table = read_source(out).table
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


# --- the real archive ---------------------------------------------------------------------------------------------


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
