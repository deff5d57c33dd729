"""CSV, Parquet and JSON lines."""

import json

import pytest

from dfd_core.errors import ManifestError
from dfd_core.sources.videos import read_videos
from tests.video_lists import ids


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder):
    (folder / "list.csv").write_bytes(b"\xef\xbb\xbfuri\nb.mp4\n")
    assert ids(read_videos(str(folder / "list.csv"))) == ["b.mp4"]


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
        read_videos(str(tmp_path / name))
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
        read_videos(str(tmp_path / "list.csv"))


def test_a_csv_keeps_its_cells_as_they_are_and_fills_short_rows(tmp_path):
    (tmp_path / "list.csv").write_bytes(
        b'\r\nuri,label,note,\r\n"a,1.mp4",real, 007 ,x\r\n\r\n   \r\n'
        b'b"2.mp4,fake,"two\r\nlines ""q""",\r\nc.mp4\r\n'
    )
    table = read_videos(str(tmp_path / "list.csv")).table
    assert table.column("video_id").to_pylist() == ["a,1.mp4", 'b"2.mp4', "c.mp4"]
    assert table.column("label").to_pylist() == ["real", "fake", None]
    assert table.column("note").to_pylist() == [" 007 ", 'two\r\nlines "q"', None]
    assert table.column("Unnamed: 3").to_pylist() == ["x", "", None]


def test_a_long_csv_keeps_every_row_in_its_place(tmp_path):
    rows = "".join(f"{row}.mp4,{row % 7}\n" for row in range(150_000))
    (tmp_path / "list.csv").write_text("uri,n\n" + rows)
    table = read_videos(str(tmp_path / "list.csv")).table
    assert table.column("video_id").to_pylist() == [f"{row}.mp4" for row in range(150_000)]
    assert table.column("n").to_pylist() == [str(row % 7) for row in range(150_000)]
    with open(tmp_path / "list.csv", "a") as file:
        file.write("x.mp4,1,2\n")
    with pytest.raises(ManifestError, match=r"row 150001$"):
        read_videos(str(tmp_path / "list.csv"))


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
        read_videos(str(tmp_path / "list.jsonl"))


def test_the_line_separators_of_unicode_end_no_line_of_json(tmp_path):
    name = "a\u2028b\u2029c\x85d.mp4"
    (tmp_path / "list.jsonl").write_text(json.dumps({"uri": name}, ensure_ascii=False) + "\r\n", newline="")
    assert ids(read_videos(str(tmp_path / "list.jsonl"))) == [name]
