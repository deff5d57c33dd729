"""Runs of pictures become face crops, whatever the storage or a picture does."""

import itertools
import time

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from dfd_core.config import ExtractConfig
from dfd_core.faces.images import decode, encode
from dfd_core.sources.pictures.read import read_pictures
from dfd_core.stages.pictures import _FACE_TYPES, crop_pictures, pictures_of
from dfd_core.storage.uri import SCHEMES
from dfd_core.video.opening import RETRY_DELAYS_S
from tests.labelled_pictures import rows as labelled_rows
from tests.picture_tables import crops_of, faces_by_video, list_runs, write


def test_columns_of_faces_are_used_where_they_are_there(tmp_path):
    png = labelled_rows(1)[0]["jpeg"]
    box = {"left": -3, "top": 1, "right": 20, "bottom": 30}
    rows = [
        {
            "video_id": "v",
            "frame_index": 7,
            "face_index": 1,
            "time_s": 0.5,
            "detector_confidence": 2.0,
            **box,
        },
        {
            "video_id": "v",
            "frame_index": 7,
            "face_index": 0,
            "time_s": 0.5,
            "detector_confidence": 1.0,
            **box,
        },
        {"video_id": "v", "frame_index": 3, "face_index": 0, "time_s": None, "detector_confidence": None},
    ]
    source = read_pictures(write(tmp_path / "faces.parquet", [row | {"image": png} for row in rows]))
    assert source.runs.column("num_frames").to_pylist() == [2]
    (faces,) = faces_by_video(source, tmp_path / "out").values()
    found = [{name: face[name] for name in ("frame_index", "face_index", "time_s", "left")} for face in faces]
    assert found == [
        {"frame_index": 7, "face_index": 1, "time_s": 0.5, "left": -3},
        {"frame_index": 7, "face_index": 0, "time_s": 0.5, "left": -3},
        {"frame_index": 3, "face_index": 0, "time_s": 0.0, "left": 0},
    ]


def test_a_picture_that_does_not_decode_is_its_videos_error_and_no_other_faces(tmp_path):
    good = labelled_rows(1)[0]["jpeg"]
    large = decode(good).repeat(4, axis=0).repeat(4, axis=1)
    from dfd_core.faces.images import encode

    contents = {
        "good": [good],
        "half": [good, b"no picture"],
        "none": [None],
        "cut": [good[:40]],
        "large": [encode(large, "png")],
    }
    rows = [{"name": name, "image": image} for name, images in contents.items() for image in images]
    source = read_pictures(write(tmp_path / "faces.parquet", rows))
    rows = list(crops_of(source, tmp_path / "out").values())
    of_key = dict(zip(source.table.column("plan_key").to_pylist(), contents, strict=True))
    found = {
        of_key[row["plan_key"]]: (row["error_kind"], len(row["faces"]), row["num_frames"]) for row in rows
    }
    assert found == {
        "good": (None, 1, 1),
        "half": ("undecodable", 1, 1),
        "none": ("undecodable", 0, 0),
        "cut": ("undecodable", 0, 0),
        "large": ("too_large", 0, 0),
    }
    messages = {of_key[row["plan_key"]]: row["error_message"] for row in rows}
    assert messages["half"] == "The picture cannot be decoded (1 of 2 pictures)"


def test_a_table_that_goes_away_is_an_error_of_its_runs(tmp_path):
    path = tmp_path / "faces.parquet"
    runs, _ = list_runs(read_pictures(write(path, labelled_rows(3, faces_per_video=1))), tmp_path / "out")
    path.unlink()
    began_s = time.monotonic()
    kinds = [pictures["error_kind"] for _, pictures in pictures_of(runs)]
    assert kinds == ["storage"] * 3
    assert time.monotonic() - began_s < RETRY_DELAYS_S[0]  # it does not come back by asking again


class Unsteady(LocalFileSystem):
    """Local files at `unsteady://` addresses, with an error for every `failing`th read until `failures` are used up."""

    protocol = "unsteady"
    failing, failures, opened = 0, 0, 0

    def _open(self, path, mode="rb", **options):
        kind = type(self)
        kind.opened += 1
        file = super()._open(path, mode, **options)
        read, count = file.read, itertools.count(1)

        def read_or_fail(*arguments):
            if kind.failures and next(count) % kind.failing == 0:
                kind.failures -= 1
                raise OSError("Connection reset by peer")
            return read(*arguments)

        file.read = read_or_fail
        return file


@pytest.fixture
def unsteady(tmp_path, monkeypatch):
    """Runs of five videos in a table whose storage can be made to fail, and the same runs where it cannot."""
    monkeypatch.setattr("dfd_core.storage.address.SCHEMES", SCHEMES | {"unsteady"})
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    rows = labelled_rows(5, faces_per_video=30)
    path = write(tmp_path / "faces.parquet", rows, row_group_size=40)
    runs, _ = list_runs(read_pictures(path), tmp_path / "out")
    Unsteady.failing, Unsteady.failures, Unsteady.opened = 0, 0, 0
    return [run | {"table": "unsteady://" + run["table"]} for run in runs], runs


@pytest.mark.parametrize("failing", [1, 2, 5, 9])
def test_a_storage_that_fails_for_a_while_costs_no_run_and_doubles_none(unsteady, failing):
    runs, local = unsteady
    Unsteady.failing, Unsteady.failures = failing, 3
    found = list(pictures_of(runs, delays_s=(0, 0, 0)))
    assert Unsteady.failures == 0
    assert Unsteady.opened == 4
    assert [run for run, _ in found] == sorted(runs, key=lambda run: run["first_row"])
    assert [pictures for _, pictures in found] == [pictures for _, pictures in pictures_of(local)]
    assert {pictures["error_kind"] for _, pictures in found} == {None}


def test_a_storage_that_goes_on_failing_is_the_error_of_every_run_that_waits(unsteady):
    runs, _ = unsteady
    Unsteady.failing, Unsteady.failures = 9, 100
    found = list(pictures_of(runs, delays_s=(0, 0)))
    kinds = [pictures["error_kind"] for _, pictures in found]
    assert sorted(run["segment_id"] for run, _ in found) == sorted(run["segment_id"] for run in runs)
    assert kinds == sorted(kinds, key=lambda kind: kind is not None)
    assert kinds[-1] == "storage"
    assert found[-1][1]["error_message"] == "The storage failed: Connection reset by peer"


def test_what_extraction_knew_of_shots_and_looks_reaches_the_scorer():
    face = dict.fromkeys(_FACE_TYPES) | {
        "frame_index": 0,
        "time_s": 0.0,
        "face_index": 0,
        "detector_confidence": 1.0,
    }
    image = encode(np.full((40, 40, 3), 128, np.uint8), "png")
    seen = {"shot": 3, "appearance": bytes(64)}
    pictures = {"num_frames_wanted": 1, "num_frames": 1, "error_kind": None, "error_message": None}
    pictures |= {"faces": [face | seen | {"image": image}], "num_shots": 4, "frame_hashes": [5]}
    row = crop_pictures({"segment_id": "s", "plan_key": "k"}, pictures, ExtractConfig(crop_px=32))
    assert (row["num_shots"], row["frame_hashes"]) == (4, [5])
    assert {name: row["faces"][0][name] for name in seen} == seen
