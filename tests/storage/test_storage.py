import os
import pickle
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dfd_core.errors import (
    RequestError,
    VideoEmptyError,
    VideoForbiddenError,
    VideoMissingError,
    VideoStorageError,
)
from dfd_core.model.fetch import local_model
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes, write_bytes
from dfd_core.storage.remote_lock import RemoteLock
from dfd_core.storage.secrets import has_credentials
from dfd_core.storage.text import one_line
from dfd_core.storage.uri import SCHEMES, join_uri, local_path, local_uri
from dfd_core.video.opening import open_video


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("out", "out/videos"),
        ("s3://bucket/out/", "s3://bucket/out/videos"),
        ("s3://b/o?region=x", "s3://b/o/videos?region=x"),
    ],
)
def test_joining_keeps_the_scheme_and_the_query(folder, expected):
    assert join_uri(folder, "videos") == expected


@pytest.mark.parametrize(
    "uri",
    [
        "s3://k:s@bucket/a",
        "s3://k@bucket/a",
        "https://h/a?X-Amz-Signature=1",
        "gs://b/a?token=t",
        "s3://b/a?secret_key=s",
        "s3://b/a#1?secret_key=s",
        "https://h/a?sv=2024-11-04&sp=r&sig=abc%3D",
        "https://h/a?SAS=abc",
        "https://h/a?jwt=abc",
        "https://h/a?x-auth=abc",
        "abfs://account:key@host.dfs.core.windows.net/a",
        "https://container@account.dfs.core.windows.net/a",
    ],
)
def test_an_address_with_credentials_is_recognised_and_refused_without_being_repeated(uri):
    assert has_credentials(uri)
    with pytest.raises(RequestError) as refusal:
        Address.parse(uri)
    assert "bucket" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b.mp4",
        "s3://bucket/a?region=eu&endpoint_override=h:9000",
        "a@b.mp4",
        "/x?key=1",
        "https://h/a?design=1&author=x&assigned=2",
        "http://[oops/a",
        "abfs://container@account.dfs.core.windows.net/a",
        "abfss://container@account.dfs.core.windows.net/a",
        "wasb://container@account.blob.core.windows.net/a",
        "wasbs://container@account.blob.core.windows.net/a",
    ],
)
def test_an_address_without_credentials_is_not_taken_for_one(uri):
    assert not has_credentials(uri)


def test_an_unknown_scheme_is_refused_in_one_line():
    with pytest.raises(RequestError, match="No storage is known"):
        Address.parse("nonsense://x/y")


@pytest.mark.parametrize(
    "folder", ["gs://bucket", "abfs://bucket@account.dfs.core.windows.net"], ids=["Google", "Azure"]
)
@pytest.mark.parametrize(
    "name",
    ["my clip.mp4", "é.mp4", "100%.mp4", "a[1].mp4", "a#1.mp4", "a%41.mp4", "a@b:c.mp4", "x/y z/a+b&c.mp4"],
)
def test_a_remote_name_is_taken_as_it_is_spelled(folder, name):
    assert Address.parse(join_uri(folder, name)).path == f"bucket/{name}"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket-[ab]/x.mp4",
        "s3://bucket/what?.mp4",
        "s3:///x",
        "s3://bucket/a//b.mp4",
        "s3://caf\udce9/x",
        "memory://caf\udce9",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(uri):
    with pytest.raises(RequestError) as refusal:
        Address.parse(uri)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).isprintable()
    with pytest.raises(VideoMissingError):
        open_video(uri)


class _Web(BaseHTTPRequestHandler):
    """Answers with the status that the path begins with, after a HEAD that may promise better: `/HEAD/GET/name`."""

    def do_HEAD(self):
        self._answer(int(self.path.split("/")[1]))

    def do_GET(self):
        self._answer(int(self.path.split("/")[2]))

    def _answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "4")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"oops")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("404/404/a.mp4", VideoMissingError),
        ("403/403/a.mp4", VideoForbiddenError),
        ("503/503/a.mp4", VideoStorageError),
    ],
)
def test_what_a_web_server_refuses_is_told_apart(web, path, error):
    with pytest.raises(error):
        open_video(f"{web}/{path}")


@pytest.mark.parametrize(
    ("status", "error"), [(401, PermissionError), (403, PermissionError), (503, OSError)]
)
def test_a_web_server_that_refuses_in_the_middle_is_an_os_error(web, status, error):
    with open_video(f"{web}/200/{status}/a.mp4") as video, pytest.raises(error, match=str(status)):
        video.read(4)


def test_a_web_server_that_is_not_there_is_a_failure_of_the_storage():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(VideoStorageError):
        open_video(f"http://127.0.0.1:{port}/a.mp4")


def test_nothing_is_at_a_malformed_web_address():
    with pytest.raises(VideoMissingError):
        open_video("http://[oops/a.mp4")


class CloudError(Exception):
    """What a cloud's library raises: no OSError."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class _Cloud(MemoryFileSystem):
    """A file system in memory that raises `error`, when there is one, whatever it is asked."""

    protocol = "cloud"
    store: ClassVar[dict] = {}
    error: Exception | None = None

    def info(self, path, **options):
        return self._unless_failing(super().info, path, **options)

    def _open(self, path, **options):
        return self._unless_failing(super()._open, path, **options)

    def _unless_failing(self, method, path, **options):
        if _Cloud.error:
            raise _Cloud.error
        return method(path, **options)


@pytest.fixture
def cloud(monkeypatch):
    monkeypatch.setattr("dfd_core.storage.address.SCHEMES", SCHEMES | {"cloud"})
    fsspec.register_implementation("cloud", _Cloud, clobber=True)
    Address.parse("cloud://b/x").fs.create_dir("/b")
    write_bytes(Address.parse("cloud://b/x"), b"content")
    yield _Cloud
    _Cloud.error = None


@pytest.mark.parametrize(
    ("status", "error"), [(403, PermissionError), (404, FileNotFoundError), (500, OSError)]
)
def test_what_a_clouds_library_raises_is_an_os_error(cloud, status, error):
    cloud.error = CloudError(status)
    with pytest.raises(error) as told:
        read_bytes(Address.parse("cloud://b/x"))
    assert str(told.value) == f"CloudError {status}: status {status}"
    with pytest.raises(error):
        write_bytes(Address.parse("cloud://b/x"), b"new")
    if status != 404:
        with pytest.raises(error):
            exists(Address.parse("cloud://b/x"))


def test_a_file_that_a_library_does_not_find_is_missing_whatever_it_says_of_why(cloud):
    for status in ("gone", 404):
        cloud.error = FileNotFoundError("b/x")
        cloud.error.__cause__ = CloudError(status)
        assert not exists(Address.parse("cloud://b/x"))
        with pytest.raises(FileNotFoundError):
            read_bytes(Address.parse("cloud://b/x"))


def test_a_programming_error_in_a_storage_is_not_disguised(cloud):
    cloud.error = TypeError("expected str")
    with pytest.raises(TypeError, match="expected str"):
        read_bytes(Address.parse("cloud://b/x"))


def test_an_fsspec_file_system_can_be_sent_to_a_worker(cloud):
    found = Address.parse("cloud://b/x")
    fs, path = found.fs, found.path
    sent = pickle.loads(pickle.dumps(fs))
    assert sent == fs
    with sent.open_input_stream(path) as stream:
        assert stream.read() == b"content"


def test_a_lock_lives_through_any_error_of_its_storage(cloud):
    lost = threading.Event()
    with RemoteLock(Address.parse("cloud://b/.lock"), on_lost=lost.set, beat_s=0.1) as lock:
        lock.acquire()
        cloud.error = RuntimeError("the session is closed")
        time.sleep(0.5)
        cloud.error = None
        write_bytes(Address.parse("cloud://b/.lock"), b"someone 1\n")
        assert lost.wait(5)


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
            open_video(f"{tmp_path}/{name}")
        assert str(tmp_path) not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_forbidden(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(VideoForbiddenError):
        open_video(str(path))


def test_a_local_name_that_is_not_text_goes_there_and_back(tmp_path):
    path = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9 %41.mp4"))
    uri = local_uri(path)
    assert uri.startswith("file://")
    assert uri.isascii()
    assert local_path(uri) == path


def test_an_ordinary_name_is_its_own_address(tmp_path):
    assert local_uri(f"{tmp_path}/%41 b?.mp4") == f"{tmp_path}/%41 b?.mp4"


def test_a_reader_sees_the_old_or_the_new_content(tmp_path):
    address = str(tmp_path / "run.json")
    write_bytes(Address.parse(address), b"old")
    write_bytes(Address.parse(address), b"new")
    assert read_bytes(Address.parse(address)) == b"new"
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_long_message_becomes_one_line():
    line = one_line("a\n b\t" * 500)
    assert "\n" not in line
    assert len(line) == 300


def test_a_remote_folder_is_copied_once_for_each_version():
    fs = Address.parse("memory://bundles/a").fs
    fs.create_dir("/bundles/a")
    with fs.open_output_stream("/bundles/a/card.json") as file:
        file.write(b"{}")
    copy = local_model("memory://bundles/a")
    assert os.listdir(copy) == ["card.json"]
    assert local_model("memory://bundles/a") == copy
    with fs.open_output_stream("/bundles/a/card.json") as file:
        file.write(b'{"threshold": 0.4}')
    assert local_model("memory://bundles/a") != copy
