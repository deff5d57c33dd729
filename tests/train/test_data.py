"""The pipelines of training on generated pictures: every face once, in an order that can be had again."""

from __future__ import annotations

import numpy as np
import pytest

from dfd_core.faces.images import decode
from dfd_core.storage.address import Address
from dfd_core.storage.tables import read_table
from dfd_core.training.augment import Augmentation
from dfd_core.training.face_index import face_key, usable_faces
from dfd_core.training.labelled import open_labelled
from dfd_core.training.placement import PLACED, place
from dfd_core.training.sampling import draw_epoch
from tests import labelled_pictures

pytestmark = pytest.mark.ray


def address(path):
    return Address.parse(str(path))


@pytest.fixture(scope="module")
def sides(ray_cluster, tmp_path_factory):
    """Twelve videos of two faces in two files, one face in both, written in a training order of batches of 7."""
    import ray.data

    from dfd.train.data import FaceTables, read_index, write_side

    context = ray.data.DataContext.get_current()
    context.use_datasource_v2 = False  # as `dfd.cluster.runtime` sets it
    context.execution_options.preserve_order = True  # as `dfd.train.run` sets it
    folder = tmp_path_factory.mktemp("sides")
    rows = labelled_pictures.rows(12)
    labelled_pictures.write_table(folder / "in" / "a.parquet", rows[:14])
    labelled_pictures.write_table(folder / "in" / "b.parquet", [rows[0], *rows[14:]])
    tables = FaceTables(
        address(folder / "in"), open_labelled(str(folder / "in")), address(folder / "images.parquet")
    )
    faces = usable_faces(read_index(tables))
    placement = place(faces.rows, multiple=7, order=draw_epoch(faces.rows["dataset"], {}, 5))
    write_side(tables, placement, address(folder / "train"))
    yield folder, rows, faces, placement
    context.execution_options.preserve_order = False


def test_the_index_has_every_face(sides):
    _, rows, faces, _ = sides
    assert faces.left_out == {"repeated": 1}
    assert set(faces.rows["face_key"]) == {face_key(row["name"], row["jpeg"]) for row in rows}


def test_numbered_videos_and_groups_are_learned_from_like_named_ones(ray_cluster, tmp_path):
    from dfd.train.data import FaceTables, read_index, write_side

    rows = labelled_pictures.rows(4)
    numbered = [{**row, "video_id": int(row["name"][1:]), "group": int(row["group"][1:])} for row in rows]
    labelled_pictures.write_table(tmp_path / "in" / "a.parquet", numbered)
    tables = FaceTables(
        address(tmp_path / "in"), open_labelled(str(tmp_path / "in")), address(tmp_path / "images.parquet")
    )
    faces = usable_faces(read_index(tables)).rows
    assert sorted(zip(faces["video_id"], faces["group"], strict=True)) == [
        (str(video), str(video // 2)) for video in range(4) for _ in range(2)
    ]
    write_side(
        tables,
        place(faces, multiple=8, order=draw_epoch(faces["dataset"], {}, 5)),
        address(tmp_path / "train"),
    )
    found = [read_table(address(path)) for path in (tmp_path / "train").glob("*.parquet")]
    assert sorted(image for table in found for image in table.column("image").to_pylist()) == sorted(
        row["jpeg"] for row in rows
    )


def test_every_place_is_written_once_with_its_face(sides):
    folder, rows, _, placement = sides
    tables = [read_table(address(path)) for path in sorted((folder / "train").glob("*.parquet"))]
    found = [row for table in tables for row in table.to_pylist()]
    assert all(
        table.schema.equals(PLACED, check_metadata=False) or table.schema.names == PLACED.names
        for table in tables
    )
    assert sorted(row["position"] for row in found) == list(range(28))
    by_image = {row["jpeg"]: row for row in rows}
    for row in found:
        face = by_image[row["image"]]
        assert row["is_fake"] == (face["label"] == "fake")
        assert row["position"] in placement.positions_of[face_key(face["name"], face["jpeg"])]
        assert row["weight"] == 1


def feed(folder):
    from dfd.train.data import Feed, stream_side

    return Feed(
        stream_side(address(folder / "train"), input_size=32).iterator(),
        batch_size=7,
        input_size=32,
        num_threads=2,
    )


def batches(folder, **changes):
    wanted = {
        "augmentation": Augmentation(),
        "seed": 1,
        "epoch": 0,
        "shuffle_faces": 28,
        "fake_weight": 1.0,
        **changes,
    }
    return list(feed(folder).training(**wanted))


def test_validation_streams_every_place_once_with_the_picture_as_it_is(sides):
    folder, rows, _, placement = sides
    found = list(feed(folder).validation())
    assert [len(batch.crops) for batch in found] == [7] * 4
    images = {p: row for row in rows for p in placement.positions_of[face_key(row["name"], row["jpeg"])]}
    for batch in found:
        for crop, position, is_fake in zip(batch.crops, batch.position, batch.is_fake, strict=True):
            np.testing.assert_array_equal(crop, decode(images[position]["jpeg"]))
            assert is_fake == (images[position]["label"] == "fake")


def test_an_epoch_is_the_same_whenever_it_is_drawn_also_from_the_middle(sides):
    folder = sides[0]
    first, again = batches(folder), batches(folder)
    assert sorted(p for batch in first for p in batch.position) == list(range(28))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.position, other.position)
        np.testing.assert_array_equal(one.crops, other.crops)
    rest = batches(folder, skip=3)
    assert len(rest) == 1
    np.testing.assert_array_equal(rest[0].crops, first[3].crops)
    other = batches(folder, epoch=1)
    assert [b.position.tolist() for b in other] != [b.position.tolist() for b in first]


def test_self_blended_reals_are_fakes_with_the_weight_of_fakes(sides):
    found = batches(sides[0], augmentation=Augmentation.parse("self_blend=0.5"), fake_weight=0.25)
    plain = batches(sides[0], augmentation=Augmentation.none())
    num_blended = 0
    for one, before in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one.position, before.position)
        blended = one.is_fake & ~before.is_fake
        assert (one.is_fake | ~before.is_fake).all()
        assert (one.crops != before.crops).any(axis=(1, 2, 3)).tolist() == blended.tolist()
        assert one.weight.tolist() == np.where(blended, 0.25, 1.0).tolist()
        num_blended += int(blended.sum())
    assert 2 <= num_blended <= 12
