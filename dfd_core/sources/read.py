"""An address → the source that is there."""

from __future__ import annotations

from dfd_core.sources.pictures.read import read_pictures
from dfd_core.sources.source import Source
from dfd_core.sources.videos import read_videos
from dfd_core.storage.uri import WEB, scheme_of


def read_source(address: str, *, allow_http: bool = False) -> Source:
    """Return what is at `address`: pictures of faces, or else videos.

    Args:
        address: The source.
        allow_http: Take http and https addresses too, as the source and in a manifest.

    Raises:
        ManifestError: Nothing is there, or it breaks the rules of a source.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    pictures = None if scheme_of(address) in WEB else read_pictures(address)
    return pictures or read_videos(address, allow_http=allow_http)
