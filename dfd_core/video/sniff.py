"""The file under a video: reads whose errors are kept, and what the first bytes say."""

from __future__ import annotations

import os
from typing import BinaryIO

from dfd_core.errors import VideoEmptyError, VideoStorageError
from dfd_core.storage.reasons import reason_of

HEAD_BYTES = 4096
"""How many of a file's first bytes the functions here need."""

_OTHER_FILES = (
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
)
_AUDIO_FILES = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"MThd", b"#!AMR")
_VIDEO_CONTAINERS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"OggS",
    b"DKIF",  # IVF
    b"\x06\x0e\x2b\x34",  # MXF
    b".RMF",
    b"nut/multimedia",
    b"YUV4MPEG2",
    b"\x00\x00\x01",  # MPEG program and elementary streams
    b"\x00\x00\x00\x01",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
)
_ISO_BOXES = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"moof",
    b"styp",
    b"sidx",
    b"uuid",
)
_PICTURE_BRANDS = ("heic", "heix", "heim", "heis", "hevc", "mif1", "msf1", "miaf", "avif", "avis", "jxl ")
_EBML_SEGMENT_ID = b"\x18\x53\x80\x67"


class VideoFile:
    """A file object as FFmpeg reads it. It keeps what the object raises, because FFmpeg may swallow it."""

    def __init__(self, file: BinaryIO) -> None:
        """Take `file` over, opened for reading in binary and seekable.

        Raises:
            VideoEmptyError: It has zero bytes.
            VideoStorageError: It cannot be read.
        """
        self._file = file
        self._error: BaseException | None = None
        self.met_end = False
        """A read came back shorter than asked for."""
        self.size = self.seek(0, os.SEEK_END)
        self.seek(0)
        self.check()
        if self.size == 0:
            raise VideoEmptyError("The file has zero bytes")

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none after an error."""
        if self._error is not None:
            return b""
        try:
            data = bytes(self._file.read(size))[:size]
        except BaseException as error:
            self._error = error
            return b""
        self.met_end = self.met_end or len(data) < size
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the new position, -1 after an error."""
        try:
            return self._file.seek(offset, whence)
        except BaseException as error:
            self._error = self._error or error
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def head(self) -> bytes:
        """Return the first bytes; the position is then anywhere."""
        self.seek(0)
        head = self.read(HEAD_BYTES)
        self.check()
        return head

    def check(self) -> None:
        """Raise what the file object raised, if anything.

        Raises:
            VideoStorageError: For any `Exception`; an interrupt is raised as it is.
        """
        if isinstance(self._error, Exception):
            is_system = isinstance(self._error, OSError)
            reason = reason_of(self._error) if is_system else type(self._error).__name__
            raise VideoStorageError(f"The storage failed while the video was read: {reason}") from self._error
        if self._error is not None:
            raise self._error


def other_kind(head: bytes) -> str | None:
    r"""Return what a file is that does not look like a video container, such as "a JPEG picture"; None if it does.

    >>> other_kind(b"<!doctype html><title>404</title>")
    'a web page or XML'
    >>> other_kind(b"\x00\x00\x00\x20ftypisom") is None
    True
    """
    for magic, kind in _OTHER_FILES:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture"
    if _is_video_container(head):
        return None
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "a web page or XML"
    return "text" if _is_text(head) else "of no known video format"


def is_audio(head: bytes) -> bool:
    """Return whether a file begins as a container that only holds sound."""
    return head.startswith(_AUDIO_FILES) or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")


def is_picture_brand(major_brand: str) -> bool:
    """Return whether an ISO base media file of this brand is a picture: HEIF or AVIF."""
    return major_brand in _PICTURE_BRANDS


def is_iso_media(head: bytes) -> bool:
    """Return whether a file begins as ISO base media: MP4, MOV, 3GP."""
    return head[4:8] in _ISO_BOXES


def declared_size(head: bytes) -> int | None:
    """Return how many bytes long a Matroska or AVI file says it is; None where it does not say.

    >>> declared_size(b"RIFF" + (1000).to_bytes(4, "little") + b"AVI ")
    1008
    """
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if 0 < size < 0xFFFFFFFF else None
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return None
    header_size, at = _ebml_size(head, 4)
    segment = at + (header_size or 0)
    if header_size is None or head[segment : segment + 4] != _EBML_SEGMENT_ID:
        return None
    size_or_none, start = _ebml_size(head, segment + 4)
    return None if size_or_none is None else start + size_or_none


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """Return the data size written at `at`, None if unknown, and where the data starts (RFC 8794, 4 and 6.2)."""
    if at >= len(head) or head[at] == 0:
        return None, at
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    is_known = value != (1 << 7 * length) - 1 and at + length <= len(head)
    return (value if is_known else None), at + length


def _is_video_container(head: bytes) -> bool:
    is_transport_stream = any(
        len(head) > start + 2 * size and head[start] == head[start + size] == head[start + 2 * size] == 0x47
        for start, size in ((0, 188), (4, 192), (0, 204))
    )
    is_riff_video = head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX")
    return (
        head.startswith(_VIDEO_CONTAINERS) or head[4:8] in _ISO_BOXES or is_riff_video or is_transport_stream
    )


def _is_text(head: bytes) -> bool:
    return b"\x00" not in head and not any(byte < 9 or 13 < byte < 27 for byte in head)
