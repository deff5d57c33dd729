"""Storage over a real S3 client and a real connection, to a server that misbehaves when it is told to."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dfd_core.config import ExtractConfig
from dfd_core.errors import (
    ManifestError,
    ModelError,
    OutputError,
    RequestError,
    VideoEmptyError,
    VideoForbiddenError,
    VideoMissingError,
    VideoStorageError,
)
from dfd_core.model.fetch import local_model
from dfd_core.run.input_hashes import hash_inputs
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import INPUT_HASHES
from dfd_core.sources.layouts.manifest import manifest_of, write_manifest
from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.scan import scan
from dfd_core.sources.videos import read_videos
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.probe import plan_video
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes, write_bytes
from dfd_core.storage.range_file import BLOCK_BYTES, RangeFile
from dfd_core.storage.remote_lock import RemoteLock
from dfd_core.storage.tables import dataset, replace_table
from dfd_core.storage.uri import join_uri
from dfd_core.video.opening import open_video, retried
from tests.clips import astronaut_frames, write_clip
from tests.s3_server import DENIED, EXPIRED, INTERNAL_ERROR, dropped, environment_of, slow, stalled

CONTENT = np.random.default_rng(0).integers(0, 256, 5_000_000, np.uint8).tobytes()


@pytest.fixture(scope="module")
def server(s3_server, tmp_path_factory):
    """The server, with this process's environment pointing to it, and one object of 5 MB, one of none."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "five_mb.bin").write_bytes(CONTENT)
    (folder / "empty.mp4").touch()
    s3_server.upload(folder, "bytes")
    with environment_of(s3_server):
        yield s3_server


def kinds(requests):
    return [request.kind for request in requests]


@pytest.mark.parametrize("form", ["endpoint and region in the address", "in the environment"])
def test_an_address_names_its_server_or_leaves_that_to_the_environment(server, form):
    uri = server.uri("bytes/five_mb.bin") if "address" in form else "s3://bytes/five_mb.bin"
    assert read_bytes(Address.parse(uri)) == CONTENT


def test_an_address_with_a_region_goes_to_its_own_server(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert exists(Address.parse(server.uri("bytes/five_mb.bin")))


def test_opening_a_video_is_one_request_and_no_list(server):
    with server.requests() as requests:
        open_video("s3://bytes/five_mb.bin").close()
    assert kinds(requests) == ["HEAD"]


def test_many_small_reads_are_few_requests_by_range(server):
    file = open_video("s3://bytes/five_mb.bin")
    with server.requests() as requests, file:
        parts = []
        while part := file.read(10_000):
            parts.append(part)
        file.seek(17)
        assert file.read(100) == CONTENT[17:117]
        file.seek(-100, os.SEEK_END)
        assert file.read() == CONTENT[-100:]
    assert b"".join(parts) == CONTENT
    assert [request.byte_range for request in requests] == [
        f"bytes={start}-{min(start + BLOCK_BYTES, len(CONTENT)) - 1}"
        for start in range(0, len(CONTENT), BLOCK_BYTES)
    ]


def test_reading_the_end_of_an_object_reads_no_more_than_a_block(server):
    file = open_video("s3://bytes/five_mb.bin")
    with server.requests() as requests, file:
        file.seek(len(CONTENT) - 10)
        assert file.read(10) == CONTENT[-10:]
    assert sum(request.num_bytes for request in requests) <= BLOCK_BYTES


def test_a_range_file_is_a_file():
    with RangeFile(pa.BufferReader(CONTENT)) as file:
        assert (file.readable(), file.seekable(), file.tell()) == (True, True, 0)
        assert file.seek(10) == 10
        assert file.seek(5, os.SEEK_CUR) == 15
        assert file.read(3) == CONTENT[15:18]
        assert file.tell() == 18
        assert file.seek(10, os.SEEK_END) == len(CONTENT) + 10
        assert file.read(1) == b""
        with pytest.raises(ValueError, match=">= 0"):
            file.seek(-1)
    assert file.closed


class _Lying(pa.BufferReader):
    """Says that it is longer than it is."""

    def size(self):
        return super().size() + 5


def test_an_object_that_ends_early_is_an_error_and_not_an_end():
    with (
        RangeFile(_Lying(b"12345")) as file,
        pytest.raises(OSError, match="10 bytes were asked for and 5 came"),
    ):
        file.read(10)


@pytest.fixture(scope="module")
def long_video(server, tmp_path_factory):
    """A video of 40 MB and 90 s, cut into segments of 10 s, with its index at its start, on the server."""
    folder = tmp_path_factory.mktemp("long")
    frames = [np.random.default_rng(i).integers(0, 256, (240, 320, 3), np.uint8) for i in range(8)]
    write_clip(
        folder / "long.mp4",
        (frames[i % 8] for i in range(450)),
        fps=5,
        options={"preset": "ultrafast", "g": "10", "crf": "12"},
        container_options={"movflags": "faststart"},
    )
    server.upload(folder, "long")
    plan = plan_video({"plan_key": "k", "uri": "s3://long/long.mp4"}, ExtractConfig(segment_s=10.0))
    return plan, (folder / "long.mp4").stat().st_size


def test_a_segment_of_a_long_video_reads_its_own_part_of_the_file(server, long_video):
    plan, size = long_video
    assert size > 30_000_000
    assert len(plan["segments"]) == 9
    segment = {
        "segment_id": "k-4", "plan_key": "k", "uri": "s3://long/long.mp4",
        "fps": plan["fps"], "duration_s": plan["duration_s"], **plan["segments"][4],
    }  # fmt: skip
    with server.requests() as requests:
        row = extract_segment(segment, ExtractConfig(segment_s=10.0), lambda rgb: [])
    assert row["error_kind"] is None
    assert row["num_frames"] == row["num_frames_wanted"] > 0
    read = sum(request.num_bytes for request in requests if request.kind == "GET")
    assert size / 9 / 2 < read < size / 9 + 3 * BLOCK_BYTES
    assert len(requests) <= 2 + read / BLOCK_BYTES + 1


def test_opening_a_long_video_reads_its_ends_only(server, long_video):
    _, size = long_video
    with server.requests() as requests:
        plan = plan_video({"plan_key": "k", "uri": "s3://long/long.mp4"}, ExtractConfig())
    assert plan["error_kind"] is None
    assert sum(request.num_bytes for request in requests) <= 2 * BLOCK_BYTES < size / 5
    assert len(requests) <= 4


@pytest.mark.parametrize("fault", [INTERNAL_ERROR, dropped, slow], ids=["500", "dropped", "slow"])
def test_a_storage_that_fails_once_is_asked_again(server, fault):
    with (
        server.faulty(fault, path="five_mb", times=1) as met,
        open_video("s3://bytes/five_mb.bin") as file,
    ):
        assert file.read() == CONTENT
    assert met.total() >= 3


def test_a_storage_that_is_silent_for_seconds_is_asked_again(server):
    with (
        server.faulty(stalled, path="five_mb", times=1) as met,
        open_video("s3://bytes/five_mb.bin") as file,
    ):
        assert file.read(10) == CONTENT[:10]
    assert met.total() == 2


@pytest.fixture(scope="module")
def clip(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder / "face.mp4", astronaut_frames(50))
    server.upload(folder, "clips")
    return "s3://clips/face.mp4"


def segment_of(uri):
    return {
        "segment_id": "k-0", "plan_key": "k", "uri": uri, "fps": 25.0, "duration_s": 2.0, "start_s": 0.0,
        "end_s": None, "frame_indices": None, "frame_pts": None, "frame_times_s": None,
    }  # fmt: skip


def test_a_connection_that_is_dropped_once_in_the_middle_costs_nothing(server, clip):
    calm = extract_segment(segment_of(clip), ExtractConfig(), lambda rgb: [])
    with server.faulty(dropped, path="face", times=1) as met:
        row = extract_segment(segment_of(clip), ExtractConfig(), lambda rgb: [])
    assert met.total() > 1
    assert row["error_kind"] is None
    assert row["num_frames"] == calm["num_frames"] == 2


def test_a_credential_that_expires_in_the_middle_is_a_row_of_the_kind_storage(server, clip, monkeypatch):
    monkeypatch.setattr(retried, "__kwdefaults__", {"delays_s": (0.01,)})
    with server.faulty(EXPIRED):
        row = extract_segment(segment_of(clip), ExtractConfig(), lambda rgb: [])
    assert row["error_kind"] == "storage"
    assert re.search(r"ExpiredToken|HTTP status 400", row["error_message"])  # the client says either
    assert "face.mp4" not in row["error_message"]


def test_opening_says_what_is_wrong(server):
    cases = {
        "bytes/nothing.mp4": VideoMissingError,
        "no-such-bucket/a.mp4": VideoMissingError,
        "bytes/empty.mp4": VideoEmptyError,
    }
    for path, expected in cases.items():
        with pytest.raises(expected):
            open_video(f"s3://{path}")
    for fault, expected in ((DENIED, VideoForbiddenError), (EXPIRED, VideoStorageError)):
        with server.faulty(fault, kinds="HEAD"), pytest.raises(expected):
            open_video("s3://bytes/five_mb.bin")


def test_an_expired_credential_is_told_as_what_it_is(server):
    with server.faulty(EXPIRED, kinds="*"):
        for attempt, error in (
            (lambda: read_videos("s3://bytes"), ManifestError),
            (lambda: local_model("s3://bytes/bundle"), ModelError),
            (lambda: OutputFolder.at("s3://bytes/out").refuse_foreign(), OutputError),
            (lambda: OutputFolder.at("s3://bytes/out").locked(), OutputError),
        ):
            with pytest.raises(error, match=r"The provided token has expired \(ExpiredToken\)") as told:
                attempt()
            assert "\n" not in str(told.value)


def test_a_missing_bucket_is_told_as_what_it_is(server):
    with pytest.raises(ManifestError, match="Nothing is at the source"):
        read_videos("s3://no-such-bucket/archive")
    with pytest.raises(OutputError, match="no-such-bucket"):
        OutputFolder.at("s3://no-such-bucket/out").locked()


def test_listing_is_paged_and_asks_nothing_about_single_objects(server):
    server.put_many("many", [f"archive/{number % 7}/{number:04d}.mp4" for number in range(2500)])
    with server.requests() as requests:
        table = read_videos("s3://many/archive").table
    assert table.num_rows == 2500
    assert table.column("video_id")[0].as_py() == "0/0000.mp4"
    assert table.column("size_bytes").to_pylist() == [1] * 2500
    assert None not in table.column("modified_ns").to_pylist()
    assert kinds(requests).count("LIST") <= 4
    assert len([request for request in requests if request.path.startswith("/many")]) <= 5


def test_the_hash_of_an_object_comes_with_its_etag(server, tmp_path):
    requests = pa.table({"plan_key": ["a"], "uri": ["s3://bytes/five_mb.bin"]})
    folder = Address.parse(str(tmp_path / "hashes"))
    hash_inputs(requests, folder)
    (row,) = dataset(folder, INPUT_HASHES).to_table().to_pylist()
    assert row["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert re.fullmatch("[0-9a-f]{32}(-1)?", row["etag"])


def test_a_manifest_on_s3_resolves_its_addresses_against_its_folder(server):
    write_bytes(Address.parse("s3://bytes/list.csv"), b"uri,camera\nfive_mb.bin,a\nsub/x.mp4,b\n")
    with server.requests() as requests:
        table = read_videos("s3://bytes/list.csv").table
    assert table.column("uri").to_pylist() == ["s3://bytes/five_mb.bin", "s3://bytes/sub/x.mp4"]
    assert table.column("video_id").to_pylist() == ["five_mb.bin", "sub/x.mp4"]
    assert all("list.csv" in request.path for request in requests if request.kind != "LIST")
    with_query = read_videos(server.uri("bytes/list.csv")).table
    assert with_query.column("uri").to_pylist()[1] == server.uri("bytes/sub/x.mp4")
    assert with_query.column("video_id").to_pylist() == ["five_mb.bin", "sub/x.mp4"]


NAMES = [
    "my clip.mp4",
    "é.mp4",
    "100%.mp4",
    "a[1].mp4",
    "a#1.mp4",
    "a%41.mp4",
    "aA.mp4",
    "a+b&c.mp4",
    "d e/f~g.mp4",
]


@pytest.mark.parametrize("form", ["plain", "with options"])
def test_names_that_are_no_plain_uri_are_listed_opened_and_written(server, tmp_path, form):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = f"names/the archive #{len(form)}"
    server.upload(tmp_path, folder)
    folder = server.uri(folder) if form == "with options" else f"s3://{folder}"
    table = read_videos(folder).table
    assert table.column("video_id").to_pylist() == read_videos(str(tmp_path)).table["video_id"].to_pylist()
    for uri, name in zip(table["uri"].to_pylist(), table["video_id"].to_pylist(), strict=True):
        with open_video(uri) as video:
            assert video.read().decode() == name
        assert read_videos(uri).table["uri"].to_pylist() == [uri]
        write_bytes(Address.parse(join_uri(folder, "copies", name)), name.encode())
        assert read_bytes(Address.parse(join_uri(folder, "copies", name))).decode() == name
    assert read_videos(join_uri(folder, "copies")).table["video_id"] == table["video_id"]


def test_a_manifest_beside_such_names_resolves_to_them(server):
    write_bytes(Address.parse("s3://bytes/set 1/a%41#.mp4"), b"1")
    write_bytes(Address.parse("s3://bytes/set 2/b c.mp4"), b"2")
    lines = ["uri", "a%41#.mp4", "../set 2/b c.mp4", "s3://bytes/set 1/é.mp4"]
    write_bytes(Address.parse("s3://bytes/set 1/the list.csv"), "\n".join(lines).encode())
    table = read_videos("s3://bytes/set 1/the list.csv").table
    assert table["uri"].to_pylist() == [
        "s3://bytes/set 1/a%41#.mp4",
        "s3://bytes/set 2/b c.mp4",
        "s3://bytes/set 1/é.mp4",
    ]
    assert table["video_id"].to_pylist() == ["a%41#.mp4", "../set 2/b c.mp4", "é.mp4"]
    for uri, content in zip(table["uri"].to_pylist(), (b"1", b"2"), strict=False):
        assert read_bytes(Address.parse(uri)) == content
    write_bytes(Address.parse("s3://bytes/set 1/wrong.csv"), b"uri\na.mp4\nb?.mp4\n")
    with pytest.raises(ManifestError, match=r"has a '\?' in its uri.*: row 2"):
        read_videos("s3://bytes/set 1/wrong.csv")


def test_a_table_is_written_below_such_a_name(server):
    schema = pa.schema([("n", pa.int64())])
    table = pa.table({"n": [1, 2]}, schema=schema)
    replace_table(Address.parse("s3://bytes/my scores #1 100%/videos"), [table], schema)
    assert dataset(Address.parse("s3://bytes/my scores #1 100%/videos"), schema).to_table() == table


def test_an_object_that_no_address_names_is_reported_and_not_misread(server):
    server.put_many(
        "unnamed", [f"v/{name}" for name in ("a.mp4", "b?.mp4", "c?d/e.mp4", "/f.mp4", "x/../g.mp4")]
    )
    source = read_videos("s3://unnamed/v")
    assert source.table["video_id"].to_pylist() == ["a.mp4"]
    assert sorted(line.partition(": ")[0] for line in source.unlisted) == [
        "unnamed/v//f.mp4",
        "unnamed/v/b?.mp4",
        "unnamed/v/c?d/e.mp4",
        "unnamed/v/x/../g.mp4",
    ]
    assert len(read_videos("s3://unnamed/v/*.mp4").unlisted) == 1
    with pytest.raises(RequestError, match="no address"):
        read_videos("s3://unnamed/v/b?.mp4")


def test_a_dataset_in_a_bucket_keeps_its_names_and_tells_what_has_none(server):
    server.put_many("faces", [f"my set/real/{name}" for name in ("a #1.mp4", "b?.mp4", "c%41.mp4", "/d.mp4")])
    root = "s3://faces/my set"
    tree = scan(root)
    found = {(item.kind, item.path) for item in tree.faults}
    assert found == {("unlisted_file", "real/b?.mp4"), ("unlisted_file", "real//d.mp4")}
    table = manifest_of(read_tree(tree), root, f"{root}/m.csv")
    write_manifest(table, f"{root}/m.csv")
    assert read_videos(f"{root}/m.csv").table["uri"].to_pylist() == [
        f"{root}/real/a #1.mp4",
        f"{root}/real/c%41.mp4",
    ]


KEYS = ["a.mp4", "A.MP4", ".hidden.mp4", "x[1].mp4", "d/a.mp4", "d/b.mkv", "d/e/c.mp4", ".h/a.mp4", "d.mp4/f"]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "*",
            "*.mp4",
            "**",
            "**/*",
            "**/*.mp4",
            "d/*",
            "d/**",
            "*/*.mp4",
            "*/**/*.mp4",
            "**/e/*.mp4",
            "**.mp4",
        ),
        *(
            "d**/*.m*",
            "[ad].mp4",
            "[!a].mp4",
            "x[[]1].mp4",
            "**/[a-c].m[pk][4v]",
            "*/",
            "**/",
            "d*/*",
            "d/**/c.mp4",
        ),
    ],
)
def test_a_pattern_finds_in_a_bucket_what_it_finds_in_a_folder(server, tmp_path, pattern):
    for key in KEYS:
        (tmp_path / "s" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / key).write_bytes(b"x")
    server.put_many("globs", [f"s/{key}" for key in KEYS])

    def listed(source):
        try:
            return read_videos(source).table["video_id"].to_pylist()
        except ManifestError as error:
            return str(error).partition(" at ")[0]

    assert listed(f"s3://globs/s/{pattern}") == listed(f"{tmp_path}/s/{pattern}")


COPY = "import sys; from dfd_core.model.fetch import local_model; print(local_model(sys.argv[1]))"


def test_a_bundle_is_fetched_once_by_all_processes_of_a_machine(server, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text("{}")
    (bundle / "model.keras").write_bytes(CONTENT)
    server.upload(bundle, "models/bundle")
    places = {**os.environ, "TMPDIR": str(tmp_path)}
    with server.requests() as requests:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", COPY, "s3://models/bundle"],
                env=places,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        copies = {process.communicate(timeout=60)[0].strip() for process in processes}
    (copy,) = copies
    assert sorted(os.listdir(copy)) == ["card.json", "model.keras"]
    assert Path(copy, "model.keras").read_bytes() == CONTENT
    fetched = [request for request in requests if (request.kind, request.path[-6:]) == ("GET", ".keras")]
    assert sum(request.num_bytes for request in fetched) == len(CONTENT)


def test_a_copy_that_breaks_off_leaves_nothing_that_looks_whole(server, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.upload(_folder(tmp_path / "b", {"a.json": b"{}", "b.keras": b"x"}), "models/broken")
    with server.faulty(DENIED, path="b.keras"), pytest.raises(ModelError, match="cannot be read"):
        local_model("s3://models/broken")
    assert [name for name in os.listdir(tmp_path / f"dfd-{os.getuid()}") if not name.endswith(".lock")] == []
    assert sorted(os.listdir(local_model("s3://models/broken"))) == ["a.json", "b.keras"]


def _folder(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_copy_is_never_taken_from_a_folder_that_others_may_write_to(server, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"dfd-{os.getuid()}").mkdir()
    (tmp_path / f"dfd-{os.getuid()}").chmod(0o777)
    with pytest.raises(ModelError, match="not a folder of this user alone"):
        local_model("s3://bytes/five_mb.bin")


def test_a_table_on_s3_is_replaced_whole(server):
    schema = pa.schema([("n", pa.int64())])
    for values in ([1, 2, 3, 4], [5]):
        table = pa.table({"n": values}, schema=schema)
        batches = [table.slice(row, 1) for row in range(table.num_rows)]
        replace_table(Address.parse("s3://bytes/table"), batches, schema, rows_per_file=1)
        assert dataset(Address.parse("s3://bytes/table"), schema).to_table() == table


def test_a_folder_on_s3_is_moved_aside_whole(server):
    root = "s3://bytes/moved/out"
    for name in ("run.json", "videos/part-0.parquet", "segments/a.parquet"):
        write_bytes(Address.parse(join_uri(root, name)), name.encode())
    out = OutputFolder.at(root)
    with out.locked() as lock:
        aside = str(out.move_aside(lock)[0])
    assert aside.startswith("s3://bytes/moved/out.2")
    assert read_bytes(Address.parse(f"{aside}/videos/part-0.parquet")) == b"videos/part-0.parquet"
    assert read_bytes(Address.parse(f"{aside}/run.json")) == b"run.json"
    OutputFolder.at(root).refuse_foreign()
    assert not exists(Address.parse(f"{root}/run.json"))


# --- the lock -----------------------------------------------------------------------------------------------------


def remote_lock(name, lost=None, beat_s=0.3):
    return RemoteLock(
        Address.parse(f"s3://bytes/{name}/.lock"), on_lost=(lost or threading.Event()).set, beat_s=beat_s
    )


def test_a_second_run_on_the_same_remote_folder_is_refused_and_the_next_is_not(server):
    refused = pytest.raises(OutputError, match="Another run is writing to s3://bytes/shared")
    with OutputFolder.at("s3://bytes/shared").locked(), refused:
        OutputFolder.at("s3://bytes/shared").locked()
    started_s = time.monotonic()
    OutputFolder.at("s3://bytes/shared").locked().release()
    assert time.monotonic() - started_s < 5


def test_of_two_that_start_at_once_exactly_one_goes_on(server):
    locks = [remote_lock("at-once", beat_s=1.0) for _ in range(4)]

    def take(lock):
        try:
            lock.acquire()
        except OutputError:
            return False
        return True

    with ThreadPoolExecutor(len(locks)) as pool:
        assert sum(pool.map(take, locks)) == 1
    for lock in locks:
        lock.release()
    assert not exists(Address.parse("s3://bytes/at-once/.lock"))


def test_a_lock_left_by_a_dead_run_is_taken_over_after_three_beats(server):
    write_bytes(Address.parse("s3://bytes/left/.lock"), b"someone 5\n")
    started_s = time.monotonic()
    with remote_lock("left") as lock:
        lock.acquire()
    assert 0.9 <= time.monotonic() - started_s < 5


def test_a_holder_that_was_taken_over_is_told_and_leaves_the_others_lock_alone(server):
    lost = threading.Event()
    with remote_lock("taken", lost) as lock:
        lock.acquire()
        write_bytes(Address.parse("s3://bytes/taken/.lock"), b"someone 1\n")
        assert lost.wait(5)
    assert read_bytes(Address.parse("s3://bytes/taken/.lock")) == b"someone 1\n"


def test_a_holder_lives_through_a_storage_that_fails_for_a_while(server):
    lost = threading.Event()
    with remote_lock("outage", lost) as lock:
        lock.acquire()
        with server.faulty(DENIED, kinds="GET PUT POST", path="outage"):
            time.sleep(1)
        time.sleep(0.7)
        assert not lost.is_set()
        with pytest.raises(OutputError):
            remote_lock("outage").acquire()
