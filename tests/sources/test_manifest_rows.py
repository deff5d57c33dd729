"""The rules of a manifest: addresses, names, labels and own columns."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError
from dfd_core.sources.videos import read_videos
from tests.video_lists import ids, write_manifest


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_the_three_kinds_of_manifest_say_the_same(folder, suffix):
    rows = [
        {"uri": "a/b.MP4", "label": "fake", "group": "7", "origin": "007"},
        {"uri": str(folder / "b.mp4"), "label": "real", "group": "7", "origin": "NA"},
        {"uri": "s3://bucket/x/y.mp4", "label": "real", "group": "8", "origin": ""},
    ]
    source = read_videos(write_manifest(folder / f"list.{suffix}", rows))
    assert ids(source) == ["a/b.MP4", "b.mp4", "s3://bucket/x/y.mp4"]
    assert source.table.column("origin").to_pylist() == ["007", "NA", ""]
    assert source.table.column("label").to_pylist() == ["fake", "real", "real"]
    assert source.table.column("size_bytes").to_pylist() == [7, 5, None]
    assert source.table.column("uri").to_pylist()[0] == str(folder / "a" / "b.MP4")


def test_own_columns_of_a_parquet_manifest_keep_their_types(folder):
    table = pa.table({"uri": ["b.mp4"], "year": pa.array([7], pa.int8()), "note": pa.nulls(1)})
    pq.write_table(table, folder / "list.parquet")
    schema = read_videos(str(folder / "list.parquet")).table.schema
    assert schema.field("year").type == pa.int8()
    assert schema.field("note").type == pa.string()


def test_a_given_id_is_kept_and_a_missing_one_filled_in(folder):
    rows = [{"uri": "b.mp4", "video_id": "0001"}, {"uri": "a/b.MP4", "video_id": ""}]
    assert ids(read_videos(write_manifest(folder / "list.csv", rows))) == ["0001", "a/b.MP4"]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"path": "b.mp4"}], "column 'uri'"),
        ([{"uri": "b.mp4"}, {"uri": ""}], "no uri: row 2"),
        ([{"uri": "b.mp4"}, {"uri": "a/c.mkv"}, {"uri": "b.mp4"}], "repeats a video_id: row 1, 3"),
        ([{"uri": "b.mp4", "label": "Fake"}], "label other than real or fake: row 1"),
        ([{"uri": "b.mp4", "p_fake": "1"}], "p_fake"),
        ([{"uri": "s3://key:hunter2@bucket/b.mp4"}], "credentials in its uri: row 1"),
        ([{"uri": ""}] * 9, "row 1, 2, 3, 4, 5 and 4 more"),
    ],
)
def test_a_manifest_that_breaks_the_rules_is_refused_naming_the_rows(folder, rows, complaint):
    with pytest.raises(ManifestError, match=complaint) as refusal:
        read_videos(write_manifest(folder / "list.csv", rows))
    assert "hunter2" not in str(refusal.value)


def test_a_malformed_web_address_is_a_row(tmp_path):
    (tmp_path / "list.csv").write_text("uri\nhttp://[oops/a.mp4\n")
    assert ids(read_videos(str(tmp_path / "list.csv"), allow_http=True)) == ["http://[oops/a.mp4"]


@pytest.mark.parametrize(
    "uri",
    [
        "local:///etc/passwd",
        "reference://a.mp4",
        "zip://a.mp4::/data/x.zip",
        "memory://a::b.mp4",
        "simplecache::s3://bucket/a.mp4",
        "ftp://host/a.mp4",
        "data://text/plain,x",
    ],
)
def test_an_address_of_no_known_storage_is_refused_by_row(folder, uri):
    rows = [{"uri": "b.mp4"}, {"uri": uri}]
    with pytest.raises(ManifestError, match=r"another address than a local path or one of .*: row 2"):
        read_videos(write_manifest(folder / "list.csv", rows))


@pytest.mark.parametrize("uri", ["http://127.0.0.1/a.mp4", "https://host/a.mp4"])
def test_a_web_address_is_refused_by_row_unless_it_is_allowed(folder, uri):
    path = write_manifest(folder / "list.csv", [{"uri": "b.mp4"}, {"uri": uri}])
    with pytest.raises(ManifestError, match="only with --allow-http: row 2"):
        read_videos(path)
    assert ids(read_videos(path, allow_http=True)) == ["b.mp4", uri]


def test_no_secret_of_an_address_is_kept_in_ids_or_own_columns(folder):
    signed = "https://host/a.mp4?X-Amz-Signature=hunter2"
    table = pa.table(
        {
            "uri": ["b.mp4", "a/c.mkv"],
            "video_id": [signed, "plain"],
            "origin": [signed, None],
            "kind": pa.array([signed, "x"]).dictionary_encode(),
            "links": [[{"page": signed, "number": 1}], []],
            "year": [1, 2],
        }
    )
    pq.write_table(table, folder / "list.parquet")
    found = read_videos(str(folder / "list.parquet")).table
    assert "hunter2" not in str(found.to_pylist())
    assert (
        found.select(["origin", "links", "kind", "year"]).schema
        == table.select(["origin", "links", "kind", "year"]).schema
    )
    redacted = signed.replace("hunter2", "***")
    assert ids(read_videos(str(folder / "list.parquet"))) == [redacted, "plain"]
    assert found.column("links").to_pylist() == [[{"page": redacted, "number": 1}], []]
    assert found.column("year").to_pylist() == [1, 2]
