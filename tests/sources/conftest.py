"""A folder of videos and other files."""

import pytest


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a/b.MP4", "a/c.mkv", "notes.txt", "a/metadata.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path
