"""Clips that are encoded when first asked for, and an ear at the decoder."""

import pytest

from dfd_core.video.opened import OpenedVideo
from tests.video.clips import CLIPS, encode


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A function from a name in CLIPS to its file, encoded when first asked for."""
    folder = tmp_path_factory.mktemp("video")

    def make(name):
        path = folder / name
        if not path.exists():
            encoder, arguments, _ = CLIPS[name]
            encode(path, encoder, **arguments)
        return path

    return make


@pytest.fixture
def sent(monkeypatch):
    """The timestamps of the packets that went into the decoder."""
    timestamps = []
    decode = OpenedVideo.decode

    def noted(self, packet, **how):
        if packet is not None:
            timestamps.append(packet.pts)
        return decode(self, packet, **how)

    monkeypatch.setattr(OpenedVideo, "decode", noted)
    return timestamps
