import hashlib
import json

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError
from dfd_core.faces.images import FaceColumns, decode
from dfd_core.training.labelled_faces import (
    INDEX,
    PLACED,
    balanced_weights,
    crops_of_images,
    face_key,
    index_faces,
    open_labelled,
    place,
    read_images,
    usable_faces,
)
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


def faces_of(count):
    return pd.DataFrame(
        {"face_key": [bytes([i]) for i in range(count)], "is_fake": [i % 2 == 0 for i in range(count)]}
    )


@pytest.mark.parametrize(("count", "multiple"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_training_is_filled_up_with_faces_that_count_twice_and_validation_with_some_that_do_not_count(
    count, multiple
):
    for seed in (3, None):
        placed = place(faces_of(count), multiple=multiple, seed=seed)
        positions = sorted(p for found in placed.positions_of.values() for p in found)
        assert positions == list(range(placed.size))
        assert placed.size % multiple == 0
        assert placed.size - count < multiple
        assert set(placed.positions_of) == set(faces_of(count)["face_key"])
        assert placed.pads_count == (seed is not None)


def test_the_order_of_training_is_random_and_seeded_and_that_of_validation_is_the_faces_own():
    orders = [place(faces_of(50), multiple=1, seed=seed).positions_of for seed in (1, 1, 2, None)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == {bytes([i]): (i,) for i in range(50)}


def test_rows_carry_position_label_and_weight():
    rows = labelled_pictures.rows(6, faces_per_video=1)
    faces = usable_faces(indexed(rows)).rows
    placed = place(faces.iloc[:5], multiple=4, seed=None, weight_of_label=(2.0, 0.5)).rows(
        table(rows + rows[:2]), COLUMNS
    )
    assert placed.schema == PLACED
    found = placed.to_pandas().sort_values("position", ignore_index=True)
    assert found["position"].tolist() == list(range(8))
    by_key = {face_key(row["name"], row["jpeg"]): row for row in rows}
    for position, row in found.iterrows():
        wanted = by_key[faces["face_key"][position % 5]]
        assert row["image"] == wanted["jpeg"]
        assert row["is_fake"] == (wanted["label"] == "fake")
        assert row["weight"] == (0 if position >= 5 else 0.5 if row["is_fake"] else 2.0)


def test_balanced_weights_give_both_labels_the_same_sum_and_a_mean_of_one():
    labels = np.arange(30) < 4
    real, fake = balanced_weights(labels)
    assert real * 26 == pytest.approx(fake * 4)
    assert (real * 26 + fake * 4) / 30 == pytest.approx(1)


def test_crops_are_resized_bilinearly_in_rgb():
    image = labelled_pictures.rows(1, faces_per_video=1)[0]["jpeg"]
    expected = cv2.resize(decode(image), (24, 24), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(crops_of_images([image], 24)[0], expected)
