"""The index of labelled faces, and which of them can be learned from."""

import hashlib

import cv2
import numpy as np
import pyarrow as pa
import pytest

from dfd_core.errors import ManifestError
from dfd_core.faces.images import FaceColumns, decode
from dfd_core.training.face_index import INDEX, crops_of_images, index_faces, usable_faces
from tests import labelled_pictures

COLUMNS = FaceColumns("jpeg", "name", "label", "group")


def table(rows):
    return pa.Table.from_pylist(rows)


def indexed(rows):
    return index_faces(table(rows), COLUMNS)


def test_the_index_names_each_picture_and_says_what_cannot_be_decoded():
    rows = labelled_pictures.rows(2, faces_per_video=1)
    rows.append({**rows[0], "name": "other", "group": "", "label": None})
    rows.append({**rows[0], "name": "broken", "jpeg": b"x"})
    found = indexed(rows)
    assert found.schema == INDEX
    hashes = [hashlib.blake2b(row["jpeg"], digest_size=16).digest() for row in rows]
    assert found.column("image_hash").to_pylist() == hashes
    assert found.column("decodes").to_pylist() == [True, True, True, False]
    assert found.column("group").to_pylist() == ["g000", "g000", None, "g000"]
    assert len(set(found.column("face_key").to_pylist())) == 4


def test_pictures_may_lie_in_a_struct():
    rows = labelled_pictures.rows(2)
    structs = table([{**row, "jpeg": {"bytes": row["jpeg"], "path": "x"}} for row in rows])
    assert index_faces(structs, COLUMNS).equals(indexed(rows))


def test_what_cannot_be_learned_from_is_left_out_and_counted():
    rows = labelled_pictures.rows(4, faces_per_video=2)
    rows += [rows[0], {**rows[1], "name": "x", "label": None}, {**rows[1], "name": "y", "jpeg": b"x"}]
    faces = usable_faces(indexed(rows))
    assert faces.left_out == {"unlabelled": 1, "undecodable": 1, "repeated": 1}
    assert len(faces.rows) == 8
    assert faces.rows["is_fake"].sum() == 4
    assert faces.rows["face_key"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"label": "FAKE"}, "Expected the label"),
        ({"name": "v001"}, "one label for each video"),
        ({"name": "v002"}, "one group for each video"),
    ],
)
def test_labels_that_do_not_add_up_are_refused(change, complaint):
    rows = labelled_pictures.rows(4, faces_per_video=1)
    rows[0] = {**rows[0], **change}
    with pytest.raises(ManifestError, match=complaint):
        usable_faces(indexed(rows))


def test_nothing_left_is_refused():
    with pytest.raises(ManifestError, match="No labelled face is left"):
        usable_faces(indexed([{**row, "label": None} for row in labelled_pictures.rows(2)]))


def test_crops_are_resized_bilinearly_in_rgb():
    image = labelled_pictures.rows(1, faces_per_video=1)[0]["jpeg"]
    expected = cv2.resize(decode(image), (24, 24), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(crops_of_images([image], 24)[0], expected)
