import os

import pytest

from dfd_core import storage
from dfd_core.errors import (
    RequestError,
    VideoEmptyError,
    VideoForbiddenError,
    VideoMissingError,
    VideoStorageError,
)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("out", "out/videos"),
        ("s3://bucket/out/", "s3://bucket/out/videos"),
        ("s3://b/o?region=x", "s3://b/o/videos?region=x"),
    ],
)
def test_joining_keeps_the_scheme_and_the_query(folder, expected):
    assert storage.join(folder, "videos") == expected


@pytest.mark.parametrize(
    "uri",
    [
        "s3://k:s@bucket/a",
        "s3://k@bucket/a",
        "https://h/a?X-Amz-Signature=1",
        "gs://b/a?token=t",
        "s3://b/a?secret_key=s",
    ],
)
def test_an_address_with_credentials_is_recognised_and_refused_without_being_repeated(uri):
    assert storage.has_credentials(uri)
    with pytest.raises(RequestError) as refusal:
        storage.filesystem(uri)
    assert "bucket" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a@b.mp4", "s3://bucket/a?region=eu&endpoint_override=h:9000", "a@b.mp4", "/x?key=1"]
)
def test_an_address_without_credentials_is_not_taken_for_one(uri):
    assert not storage.has_credentials(uri)


def test_an_unknown_scheme_is_refused_in_one_line():
    with pytest.raises(RequestError, match="No storage is known"):
        storage.filesystem("nonsense://x/y")


def test_opening_says_what_is_wrong(tmp_path):
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    cases = {
        "nothing.mp4": VideoMissingError,
        "empty.mp4": VideoEmptyError,
        ".": VideoMissingError,
        "pipe.mp4": VideoMissingError,  # opening it would wait for ever
        "loop.mp4": VideoStorageError,
        "a\0b.mp4": VideoMissingError,
    }
    for name, error in cases.items():
        with pytest.raises(error) as refusal:
            storage.open_video(f"{tmp_path}/{name}")
        assert str(tmp_path) not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_forbidden(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(VideoForbiddenError):
        storage.open_video(str(path))


def test_a_local_name_that_is_not_text_goes_there_and_back(tmp_path):
    path = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9 %41.mp4"))
    uri = storage.local_uri(path)
    assert uri.startswith("file://")
    assert uri.isascii()
    assert storage.local_path(uri) == path


def test_an_ordinary_name_is_its_own_address(tmp_path):
    assert storage.local_uri(f"{tmp_path}/%41 b?.mp4") == f"{tmp_path}/%41 b?.mp4"


def test_a_reader_sees_the_old_or_the_new_content(tmp_path):
    address = str(tmp_path / "run.json")
    storage.write_bytes(address, b"old")
    storage.write_bytes(address, b"new")
    assert storage.read_bytes(address) == b"new"
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_long_message_becomes_one_line():
    line = storage.one_line("a\n b\t" * 500)
    assert "\n" not in line
    assert len(line) == 300


def test_a_remote_folder_is_copied_once_for_each_version():
    fs, _ = storage.filesystem("memory://bundles/a")
    fs.create_dir("/bundles/a")
    with fs.open_output_stream("/bundles/a/card.json") as file:
        file.write(b"{}")
    copy = storage.local_copy("memory://bundles/a")
    assert os.listdir(copy) == ["card.json"]
    assert storage.local_copy("memory://bundles/a") == copy
    with fs.open_output_stream("/bundles/a/card.json") as file:
        file.write(b'{"threshold": 0.4}')
    assert storage.local_copy("memory://bundles/a") != copy
