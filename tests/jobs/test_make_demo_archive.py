"""The demo archive shows real faces and visibly altered ones, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import av
import dlib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from jobs.make_demo_archive import CLIPS, FACE_XY, FPS, Clip, altered, main, portrait, write_clip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "archive"
    result = CliRunner().invoke(main, ["--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


def test_the_manifest_names_every_clip_and_labels_half_of_them_fake(archive: Path) -> None:
    manifest = pd.read_csv(archive / "manifest.csv", keep_default_na=False)
    assert list(manifest) == ["uri", "video_id", "label", "group", "alteration"]
    assert set(manifest.uri) == {path.name for path in archive.glob("*.mp4")}
    assert manifest.video_id.is_unique
    assert manifest.label.value_counts().to_dict() == {"real": 3, "fake": 3}
    assert manifest.groupby("group").label.agg(set).tolist() == [{"real", "fake"}] * 3


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_one_face_is_found_in_every_frame_that_is_looked_at(archive: Path, clip: Clip) -> None:
    detector = dlib.get_frontal_face_detector()
    with av.open(str(archive / f"{clip.name}.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == clip.duration_s * FPS
    assert frames[0].shape == (clip.height, clip.width, 3)
    assert [len(detector(frame, 0)) for frame in frames[::26]] == [1] * len(frames[::26])


@pytest.mark.parametrize("alteration", ["mirrored", "smoothed", "pasted"])
def test_an_alteration_is_seen_in_the_face_and_nowhere_else(alteration: str) -> None:
    original = portrait()
    change = np.abs(altered(original, alteration, np.random.default_rng(0)).astype(int) - original).max(
        axis=2
    )
    y, x = np.indices(change.shape)
    distance = np.hypot(x - FACE_XY[0], y - FACE_XY[1])
    assert change[distance < 40].mean() > 10
    assert not change[distance > 90].any()


def test_a_clip_is_the_same_bytes_each_time(archive: Path, tmp_path: Path) -> None:
    clip = CLIPS[-1]
    write_clip(clip, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (archive / f"{clip.name}.mp4").read_bytes()
