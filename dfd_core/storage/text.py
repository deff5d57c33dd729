"""Names and messages as text that Parquet, JSON and a terminal can hold."""

from __future__ import annotations

import re

from dfd_core.storage.secrets import redacted

_LIKE_ENCODED = re.compile("%(?=25|[89A-F][0-9A-F])")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def is_text(name: str) -> bool:
    """Return whether `name` holds no undecodable bytes, so that Parquet can store it."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def as_text(name: str) -> str:
    r"""Return `name` unchanged if it is text, otherwise with its undecodable bytes percent-encoded.

    >>> as_text("caf\udce9.mp4")
    'caf%E9.mp4'
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def name_id(name: str) -> str:
    r"""Return the text that stands for the name of a local file, another one for every name.

    Undecodable bytes are percent-encoded. A percent sign stays as it is, unless the text would then be that of another
    name.

    >>> name_id("caf\udce9.mp4"), name_id("caf%E9.mp4"), name_id("%20.mp4")
    ('caf%E9.mp4', 'caf%25E9.mp4', '%20.mp4')
    """
    return as_text(_LIKE_ENCODED.sub("%25", name))


def printable(text: str) -> str:
    r"""Return `text` with what a terminal would obey escaped: control characters, and those that turn the direction.

    >>> printable("a\x1b[2J\n.mp4")
    'a\\x1b[2J\\n.mp4'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(error: BaseException | str) -> str:
    """Return an error's message on one line of at most 300 characters, without the secrets of addresses in it."""
    text = printable(redacted(" ".join(str(error).split())))
    return text if len(text) <= 300 else text[:299] + "…"
