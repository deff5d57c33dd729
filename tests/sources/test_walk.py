"""Folders, globs and links."""

import os

import pytest

from dfd_core.errors import ManifestError
from dfd_core.sources.videos import read_videos
from tests.video_lists import ids


def test_a_folder_is_walked_and_ids_are_relative_paths_never_bare_stems(folder):
    source = read_videos(str(folder))
    assert ids(source) == ["b.mp4", "a/b.MP4", "a/c.mkv"]
    assert source.table.column("uri").to_pylist()[1] == str(folder / "a" / "b.MP4")
    assert source.table.column("size_bytes").to_pylist() == [5, 7, 7]
    assert dict(source.skipped) == {"txt": 1, "json": 1}


def test_a_glob_has_ids_relative_to_its_fixed_part(folder):
    assert ids(read_videos(str(folder / "**" / "*.mp4"))) == ["b.mp4"]
    assert ids(read_videos(str(folder / "a" / "*"))) == ["b.MP4", "c.mkv", "metadata.json"]


def test_a_folder_with_brackets_in_its_name_is_no_glob(tmp_path):
    (tmp_path / "set[1]").mkdir()
    (tmp_path / "set[1]" / "v.mp4").touch()
    assert ids(read_videos(str(tmp_path / "set[1]"))) == ["v.mp4"]


def test_names_that_are_not_utf8_survive(tmp_path):
    raw = os.fsencode(str(tmp_path)) + b"/caf\xe9.mp4"
    with open(raw, "wb") as file:
        file.write(b"abc")
    source = read_videos(str(tmp_path))
    assert ids(source) == ["caf%E9.mp4"]
    from dfd_core.video.opening import open_video

    with open_video(source.table.column("uri")[0].as_py()) as video:
        assert video.read() == b"abc"


@pytest.mark.parametrize(
    "name", ["new\nline.mp4", "quote'\".mp4", "<b>html</b>.mp4", "x" * 251 + ".mp4", "%20.mp4", "a b#?.mp4"]
)
def test_hostile_names_pass_through(tmp_path, name):
    (tmp_path / name.replace("/", "_")).touch()
    source = read_videos(str(tmp_path))
    assert ids(source) == [name.replace("/", "_")]
    assert os.path.exists(source.table.column("uri")[0].as_py())


def test_a_dangling_link_is_a_row(tmp_path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert read_videos(str(tmp_path)).table.column("size_bytes").to_pylist() == [None]


@pytest.mark.parametrize("make", [lambda d: d / "nothing", lambda d: d / "*.mp4", lambda d: d])
def test_a_source_without_a_video_is_refused(tmp_path, make):
    with pytest.raises(ManifestError):
        read_videos(str(make(tmp_path)))


def test_links_to_folders_are_reported_and_not_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.mp4").touch()
    (folder / "a" / "more").symlink_to(elsewhere)
    source = read_videos(str(folder))
    assert ids(source) == ["b.mp4", "a/b.MP4", "a/c.mkv"]
    assert source.unlisted == (f"{folder}/a/more: a link to a folder",)


def test_a_folder_of_nothing_but_links_says_so(tmp_path):
    (tmp_path / "more").symlink_to("/")
    with pytest.raises(ManifestError, match="more: a link to a folder"):
        read_videos(str(tmp_path))


def test_a_glob_lists_in_the_order_of_a_folder(folder):
    assert ids(read_videos(str(folder / "**" / "*.[mM]*"))) == ids(read_videos(str(folder)))


def test_no_two_names_of_a_folder_have_one_id(tmp_path):
    names = [
        b"a\xe9.mp4",
        b"a%E9.mp4",
        b"a%25E9.mp4",
        b"a%2525E9.mp4",
        b"a%25.mp4",
        b"a%.mp4",
        "aé.mp4".encode(),
    ]
    for name in names:
        open(os.fsencode(str(tmp_path)) + b"/" + name, "wb").close()
    source = read_videos(str(tmp_path))
    assert len(set(ids(source))) == len(names)
    assert {"a%E9.mp4", "a%25E9.mp4", "aé.mp4", "a%.mp4"} <= set(ids(source))


def test_links_to_files_are_followed_and_counted(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "d.mp4"
    elsewhere.write_bytes(b"abc")
    (folder / "link.mp4").symlink_to(elsewhere)
    source = read_videos(str(folder))
    assert ids(source) == ["b.mp4", "link.mp4", "a/b.MP4", "a/c.mkv"]
    assert "1 files are links; what they lead to is read" in source.notes
    assert read_videos(str(folder / "*.mp4")).num_links == 1


def test_a_pattern_with_several_double_stars_finds_each_file_once(folder):
    assert ids(read_videos(str(folder / "**" / "**" / "*.mp4"))) == ["b.mp4"]
