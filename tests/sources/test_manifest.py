import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError, RequestError
from dfd_core.sources.manifest import read_source


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a/b.MP4", "a/c.mkv", "notes.txt", "a/metadata.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path


def ids(source):
    return source.table.column("video_id").to_pylist()


def test_a_folder_is_walked_and_ids_are_relative_paths_never_bare_stems(folder):
    source = read_source(str(folder))
    assert ids(source) == ["b.mp4", "a/b.MP4", "a/c.mkv"]
    assert source.table.column("uri").to_pylist()[1] == str(folder / "a" / "b.MP4")
    assert source.table.column("size_bytes").to_pylist() == [5, 7, 7]
    assert dict(source.skipped) == {"txt": 1, "json": 1}


def test_a_file_is_one_video(folder):
    assert ids(read_source(str(folder / "b.mp4"))) == ["b.mp4"]


def test_a_glob_has_ids_relative_to_its_fixed_part(folder):
    assert ids(read_source(str(folder / "**" / "*.mp4"))) == ["b.mp4"]
    assert ids(read_source(str(folder / "a" / "*"))) == ["b.MP4", "c.mkv", "metadata.json"]


def test_a_folder_with_brackets_in_its_name_is_no_glob(tmp_path):
    (tmp_path / "set[1]").mkdir()
    (tmp_path / "set[1]" / "v.mp4").touch()
    assert ids(read_source(str(tmp_path / "set[1]"))) == ["v.mp4"]


def test_names_that_are_not_utf8_survive(tmp_path):
    raw = os.fsencode(str(tmp_path)) + b"/caf\xe9.mp4"
    with open(raw, "wb") as file:
        file.write(b"abc")
    source = read_source(str(tmp_path))
    assert ids(source) == ["caf%E9.mp4"]
    from dfd_core.storage.address import open_video

    with open_video(source.table.column("uri")[0].as_py()) as video:
        assert video.read() == b"abc"


@pytest.mark.parametrize(
    "name", ["new\nline.mp4", "quote'\".mp4", "<b>html</b>.mp4", "x" * 251 + ".mp4", "%20.mp4", "a b#?.mp4"]
)
def test_hostile_names_pass_through(tmp_path, name):
    (tmp_path / name.replace("/", "_")).touch()
    source = read_source(str(tmp_path))
    assert ids(source) == [name.replace("/", "_")]
    assert os.path.exists(source.table.column("uri")[0].as_py())


def test_a_dangling_link_is_a_row(tmp_path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert read_source(str(tmp_path)).table.column("size_bytes").to_pylist() == [None]


@pytest.mark.parametrize("make", [lambda d: d / "nothing", lambda d: d / "*.mp4", lambda d: d])
def test_a_source_without_a_video_is_refused(tmp_path, make):
    with pytest.raises(ManifestError):
        read_source(str(make(tmp_path)))


def test_links_to_folders_are_reported_and_not_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.mp4").touch()
    (folder / "a" / "more").symlink_to(elsewhere)
    source = read_source(str(folder))
    assert ids(source) == ["b.mp4", "a/b.MP4", "a/c.mkv"]
    assert source.unlisted == (f"{folder}/a/more: a link to a folder",)


def test_a_folder_of_nothing_but_links_says_so(tmp_path):
    (tmp_path / "more").symlink_to("/")
    with pytest.raises(ManifestError, match="more: a link to a folder"):
        read_source(str(tmp_path))


def test_a_glob_lists_in_the_order_of_a_folder(folder):
    assert ids(read_source(str(folder / "**" / "*.[mM]*"))) == ids(read_source(str(folder)))


def write_manifest(path, rows):
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_the_three_kinds_of_manifest_say_the_same(folder, suffix):
    rows = [
        {"uri": "a/b.MP4", "label": "fake", "group": "7", "origin": "007"},
        {"uri": str(folder / "b.mp4"), "label": "real", "group": "7", "origin": "NA"},
        {"uri": "s3://bucket/x/y.mp4", "label": "real", "group": "8", "origin": ""},
    ]
    source = read_source(write_manifest(folder / f"list.{suffix}", rows))
    assert ids(source) == ["a/b.MP4", "b.mp4", "s3://bucket/x/y.mp4"]
    assert source.table.column("origin").to_pylist() == ["007", "NA", ""]
    assert source.table.column("label").to_pylist() == ["fake", "real", "real"]
    assert source.table.column("size_bytes").to_pylist() == [7, 5, None]
    assert source.table.column("uri").to_pylist()[0] == str(folder / "a" / "b.MP4")


def test_own_columns_of_a_parquet_manifest_keep_their_types(folder):
    table = pa.table({"uri": ["b.mp4"], "year": pa.array([7], pa.int8()), "note": pa.nulls(1)})
    pq.write_table(table, folder / "list.parquet")
    schema = read_source(str(folder / "list.parquet")).table.schema
    assert schema.field("year").type == pa.int8()
    assert schema.field("note").type == pa.string()


def test_a_given_id_is_kept_and_a_missing_one_filled_in(folder):
    rows = [{"uri": "b.mp4", "video_id": "0001"}, {"uri": "a/b.MP4", "video_id": ""}]
    assert ids(read_source(write_manifest(folder / "list.csv", rows))) == ["0001", "a/b.MP4"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder):
    (folder / "list.csv").write_bytes(b"\xef\xbb\xbfuri\nb.mp4\n")
    assert ids(read_source(str(folder / "list.csv"))) == ["b.mp4"]


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
        read_source(write_manifest(folder / "list.csv", rows))
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", b""),
        ("list.csv", b"uri\n"),
        ("list.csv", b"uri\n\xff\xfe\n"),
        ("list.csv", b'uri\n"open'),
        ("list.parquet", b"PAR1"),
        ("list.jsonl", b"{"),
        ("list.jsonl", b"[1]\n"),
        ("list.jsonl", b'{"uri": "a.mp4", "tags": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
        ("list.jsonl", b'{"uri": "a.mp4", "number": ' + b"1" * 5000 + b"}\n"),
        ("list.jsonl", b'{"uri": "\\ud800.mp4"}\n'),
        ("list.csv", b"\n \n"),
        ("list.csv", b'uri\n"a"b.mp4\n'),
        ("list.csv", b"uri\n" + b"x" * (2 << 24)),
        ("list.jsonl", b""),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError) as refusal:
        read_source(str(tmp_path / name))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"uri,label\na.mp4,real\n\nb.mp4,fake,\nc.mp4,real,x,y\n", "more fields than the header: row 2, 3"),
        (b"uri,label\na.mp4,real,\n", "more fields than the header: row 1"),
        (b"uri,label,label\na.mp4,real,fake\n", "a column twice: label"),
        (b'uri,note\na.mp4,"two\nlines"\nb.mp4,"open\n', "Line 4 of the manifest"),
    ],
)
def test_a_csv_whose_fields_do_not_fit_its_header_is_refused(tmp_path, content, complaint):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=complaint):
        read_source(str(tmp_path / "list.csv"))


def test_a_csv_keeps_its_cells_as_they_are_and_fills_short_rows(tmp_path):
    (tmp_path / "list.csv").write_bytes(
        b'\r\nuri,label,note,\r\n"a,1.mp4",real, 007 ,x\r\n\r\n   \r\n'
        b'b"2.mp4,fake,"two\r\nlines ""q""",\r\nc.mp4\r\n'
    )
    table = read_source(str(tmp_path / "list.csv")).table
    assert table.column("video_id").to_pylist() == ["a,1.mp4", 'b"2.mp4', "c.mp4"]
    assert table.column("label").to_pylist() == ["real", "fake", None]
    assert table.column("note").to_pylist() == [" 007 ", 'two\r\nlines "q"', None]
    assert table.column("Unnamed: 3").to_pylist() == ["x", "", None]


def test_a_long_csv_keeps_every_row_in_its_place(tmp_path):
    rows = "".join(f"{row}.mp4,{row % 7}\n" for row in range(150_000))
    (tmp_path / "list.csv").write_text("uri,n\n" + rows)
    table = read_source(str(tmp_path / "list.csv")).table
    assert table.column("video_id").to_pylist() == [f"{row}.mp4" for row in range(150_000)]
    assert table.column("n").to_pylist() == [str(row % 7) for row in range(150_000)]
    with open(tmp_path / "list.csv", "a") as file:
        file.write("x.mp4,1,2\n")
    with pytest.raises(ManifestError, match=r"row 150001$"):
        read_source(str(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([{"uri": "a.mp4", "number": 2**63}], "column 'number'"),
        ([{"uri": "a.mp4", "number": 1}, {"uri": "b.mp4", "number": "x"}], "column 'number'"),
        ([{"uri": "a.mp4", "tags": {}}, {"uri": "b.mp4", "tags": {}}], "column 'tags'"),
        ([{"uri": "a.mp4", "tags": [{}]}], "column 'tags'"),
        ([{"uri": "a.mp4"}, {"uri": "b\0.mp4"}], "null byte in its uri: row 2"),
        ([{"uri": "a.mp4"}, "]"], "Line 2 of the manifest"),
    ],
)
def test_lines_of_json_that_no_table_can_hold_are_refused_naming_the_place(tmp_path, lines, complaint):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(ManifestError, match=complaint):
        read_source(str(tmp_path / "list.jsonl"))


def test_the_line_separators_of_unicode_end_no_line_of_json(tmp_path):
    name = "a\u2028b\u2029c\x85d.mp4"
    (tmp_path / "list.jsonl").write_text(json.dumps({"uri": name}, ensure_ascii=False) + "\r\n", newline="")
    assert ids(read_source(str(tmp_path / "list.jsonl"))) == [name]


def test_a_malformed_web_address_is_a_row(tmp_path):
    (tmp_path / "list.csv").write_text("uri\nhttp://[oops/a.mp4\n")
    assert ids(read_source(str(tmp_path / "list.csv"))) == ["http://[oops/a.mp4"]


def test_a_pattern_in_the_name_of_a_bucket_is_refused_in_one_line():
    with pytest.raises(RequestError, match="no address"):
        read_source("s3://bucket-[ab]/*.mp4")
    with pytest.raises(ManifestError, match="pattern below a bucket"):
        read_source("memory://*/a.mp4")


def test_an_address_with_credentials_is_refused_without_repeating_them():
    with pytest.raises(RequestError) as refusal:
        read_source("s3://AKIA:hunter2@bucket/videos")
    assert "hunter2" not in str(refusal.value)


def test_a_changed_file_has_another_key(folder):
    before = read_source(str(folder)).table.column("plan_key").to_pylist()
    (folder / "b.mp4").write_bytes(b"longer")
    after = read_source(str(folder)).table.column("plan_key").to_pylist()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
