"""What LABELLED may be."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError
from dfd_core.faces.images import FaceColumns
from dfd_core.training.face_index import index_faces
from dfd_core.training.labelled import open_labelled, read_images
from tests import labelled_pictures

COLUMNS = FaceColumns("jpeg", "name", "label", "group")


def table(rows):
    return pa.Table.from_pylist(rows)


def indexed(rows):
    return index_faces(table(rows), COLUMNS)


def test_a_folder_of_extracted_faces_says_how_they_were_cut_out(tmp_path):
    labelled_pictures.write_table(tmp_path / "faces" / "part-0.parquet", labelled_pictures.rows(4))
    assert open_labelled(str(tmp_path)).margin is None
    (tmp_path / "run.json").write_text(
        json.dumps({"configuration": {"margin": 0.3, "sampling": "interval:2"}})
    )
    found = open_labelled(str(tmp_path))
    assert (found.kind, found.margin, found.sampling, found.columns) == ("faces", 0.3, "interval:2", COLUMNS)
    assert [path.endswith("faces/part-0.parquet") for path in found.files] == [True]


def test_a_table_or_a_folder_of_tables_is_taken_as_it_is(tmp_path):
    path = labelled_pictures.write_table(tmp_path / "a.parquet", labelled_pictures.rows(4))
    labelled_pictures.write_table(tmp_path / "b.parquet", labelled_pictures.rows(4))
    assert len(open_labelled(str(path)).files) == 1
    assert len(open_labelled(str(tmp_path)).files) == 2


def test_a_manifest_is_one_of_pictures_or_one_of_videos(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("uri,label\na.PNG,real\nb.jpg,fake\n")
    assert open_labelled(str(path)).kind == "images"
    path.write_text("uri,label\na.mp4,real\nb,fake\n")
    assert open_labelled(str(path)).kind == "videos"
    path.write_text("uri,label\na.mp4,real\nb.jpg,fake\n")
    with pytest.raises(ManifestError, match="1 pictures and 1 others"):
        open_labelled(str(path))
    path.write_text("uri\na.png\n")
    with pytest.raises(ManifestError, match="column 'label'"):
        open_labelled(str(path))


def test_a_manifest_in_parquet_is_a_manifest(tmp_path):
    pq.write_table(pa.table({"uri": ["a.png"], "label": ["real"]}), tmp_path / "m.parquet")
    assert open_labelled(str(tmp_path / "m.parquet")).kind == "images"


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else PAR1"])
def test_a_table_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ManifestError, match="cannot be read"):
        open_labelled(str(tmp_path))


def test_pictures_of_a_manifest_are_read_and_missing_ones_are_empty(tmp_path):
    (tmp_path / "a.png").write_bytes(b"bytes")
    found = read_images(pa.table({"uri": [str(tmp_path / "a.png"), str(tmp_path / "b.png")]}))
    assert found.column("image").to_pylist() == [b"bytes", b""]
