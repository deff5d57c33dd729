"""The endings of file names, lower case, that say what a file holds."""

from __future__ import annotations

import posixpath

VIDEO_SUFFIXES = frozenset(
    "3g2 3gp asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4 mpe mpeg mpg "
    "mpv mts mxf nut obu ogm ogv qt rm rmvb tod ts vob webm wmv wtv y4m".split()
)
"""A folder walk takes these files for videos."""
IMAGE_SUFFIXES = frozenset("bmp jpeg jpg png tif tiff webp".split())
MANIFEST_SUFFIXES = ("csv", "parquet", "jsonl")


def suffix_of(path: str) -> str:
    """Return the ending of a file's name in lower case, without its dot; empty if it has none.

    >>> suffix_of("a/b.MP4"), suffix_of("a.b/c")
    ('mp4', '')
    """
    return posixpath.splitext(path)[1][1:].lower()


def is_video(path: str) -> bool:
    """Return whether a file is named like a video."""
    return suffix_of(path) in VIDEO_SUFFIXES
