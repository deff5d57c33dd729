"""The order of training and validation."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dfd_core.faces.images import FaceColumns
from dfd_core.training.face_index import face_key, index_faces, usable_faces
from dfd_core.training.placement import PLACED, place
from dfd_core.training.sampling import draw_epoch
from tests import labelled_pictures

COLUMNS = FaceColumns("jpeg", "name", "label", "group")


def table(rows):
    return pa.Table.from_pylist(rows)


def indexed(rows):
    return index_faces(table(rows), COLUMNS)


def faces_of(count):
    return pd.DataFrame(
        {"face_key": [bytes([i]) for i in range(count)], "is_fake": [i % 2 == 0 for i in range(count)]}
    )


def order_of(count, seed):
    return None if seed is None else draw_epoch(pd.Series([None] * count), {}, seed)


@pytest.mark.parametrize(("count", "multiple"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_training_is_filled_up_with_faces_that_count_twice_and_validation_with_some_that_do_not_count(
    count, multiple
):
    for seed in (3, None):
        placed = place(faces_of(count), multiple=multiple, order=order_of(count, seed))
        positions = sorted(p for found in placed.positions_of.values() for p in found)
        assert positions == list(range(placed.size))
        assert placed.size % multiple == 0
        assert placed.size - count < multiple
        assert set(placed.positions_of) == set(faces_of(count)["face_key"])
        assert placed.pads_count == (seed is not None)


def test_the_order_of_training_is_random_and_seeded_and_that_of_validation_is_the_faces_own():
    orders = [
        place(faces_of(50), multiple=1, order=order_of(50, seed)).positions_of for seed in (1, 1, 2, None)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == {bytes([i]): (i,) for i in range(50)}


def test_rows_carry_position_label_and_weight():
    rows = labelled_pictures.rows(6, faces_per_video=1)
    faces = usable_faces(indexed(rows)).rows
    placed = place(faces.iloc[:5], multiple=4, weight_of_label=(2.0, 0.5)).rows(
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


def test_rows_carry_the_landmarks_of_their_face():
    rows = [
        {**row, "landmarks": [number / 10, 0.5]}
        for number, row in enumerate(labelled_pictures.rows(4, faces_per_video=1))
    ]
    columns = FaceColumns.of(table(rows).schema)
    assert columns.landmarks == "landmarks"
    faces = usable_faces(index_faces(table(rows), columns)).rows
    assert not faces["has_outline"].any()
    placed = place(faces, multiple=4).rows(table(rows), columns).to_pandas()
    wanted = {row["jpeg"]: row["landmarks"] for row in rows}
    for _, row in placed.iterrows():
        np.testing.assert_allclose(row["landmarks"], wanted[row["image"]])
