"""Names and messages as text that Parquet, JSON and a terminal can hold."""

from __future__ import annotations

import re


def is_text(name: str) -> bool:
    """Return whether `name` holds no undecodable bytes, so that Parquet can store it."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def as_text(name: str) -> str:
    r"""Return `name` unchanged if it is text, otherwise with its undecodable bytes percent-encoded.

    >>> as_text("caf\udce9.mp4")
    'caf%E9.mp4'
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def one_line(error: BaseException | str) -> str:
    """Return an error's message on one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:299] + "…"
