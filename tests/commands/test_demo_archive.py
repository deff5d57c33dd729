"""The demo archive shows real faces and visibly altered ones, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import av
import dlib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from dfd.commands.demo_archive import (
    FACE_XY,
    FPS,
    METHODS,
    Clip,
    altered,
    clips_of,
    main,
    portrait,
    write_clip,
)

CLIPS = [clip for number in range(4) for clip in clips_of(number)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "archive"
    result = CliRunner().invoke(main, ["--out", str(out), "--train", "3", "--held-out", "1"])
    assert result.exit_code == 0, result.output
    return out


def test_the_manifests_name_every_clip_and_label_half_of_them_fake(archive: Path) -> None:
    groups = []
    for part in ("train", "held_out"):
        manifest = pd.read_csv(archive / part / "manifest.csv", keep_default_na=False)
        assert list(manifest) == ["uri", "video_id", "label", "group", "method"]
        assert set(manifest.uri) == {path.name for path in (archive / part).glob("*.mp4")}
        assert manifest.video_id.is_unique
        assert manifest.groupby("group").label.agg(set).map(lambda labels: labels == {"real", "fake"}).all()
        assert ((manifest.method != "") == (manifest.label == "fake")).all()
        groups.append(set(manifest.group))
    assert [len(part) for part in groups] == [3, 1]
    assert not groups[0] & groups[1]


def test_light_quality_and_zoom_do_not_give_a_fake_away() -> None:
    pairs = [clips_of(number) for number in range(200)]
    for of in (lambda clip: clip.crf, lambda clip: sum(clip.light), lambda clip: sum(clip.zoom)):
        higher = sum(of(fake) > of(real) for real, fake in pairs) + sum(of(f) == of(r) for r, f in pairs) / 2
        assert 70 < higher < 130


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_one_face_is_found_in_every_frame_that_is_looked_at(archive: Path, clip: Clip) -> None:
    detector = dlib.get_frontal_face_detector()
    with av.open(str(next(archive.rglob(f"{clip.name}.mp4")))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == round(clip.duration_s * FPS)
    assert frames[0].shape == (clip.height, clip.width, 3)
    assert [len(detector(frame, 0)) for frame in frames[::26]] == [1] * len(frames[::26])


@pytest.mark.parametrize("method", METHODS)
def test_an_alteration_is_seen_in_the_face_and_nowhere_else(method: str) -> None:
    original = portrait()
    change = np.abs(altered(original, method, np.random.default_rng(0)).astype(int) - original).max(axis=2)
    y, x = np.indices(change.shape)
    distance = np.hypot(x - FACE_XY[0], y - FACE_XY[1])
    assert change[distance < 40].mean() > 10
    assert not change[distance > 90].any()


def test_a_clip_is_the_same_bytes_each_time(archive: Path, tmp_path: Path) -> None:
    clip = CLIPS[-1]
    write_clip(clip, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (next(archive.rglob(f"{clip.name}.mp4"))).read_bytes()
