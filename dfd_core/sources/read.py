"""An address → the source that is there."""

from __future__ import annotations

from dfd_core.sources.pictures.read import read_pictures
from dfd_core.sources.source import Source
from dfd_core.sources.videos import read_videos


def read_source(address: str) -> Source:
    """Return what is at `address`: pictures of faces, or else videos.

    Raises:
        ManifestError: Nothing is there, or it breaks the rules of a source.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    return read_pictures(address) or read_videos(address)
