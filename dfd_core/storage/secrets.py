"""Secrets that addresses carry: found in order to refuse an address, and redacted from all other text."""

from __future__ import annotations

import re
from urllib.parse import unquote

_SECRET_KEY = re.compile(
    r"key|secret|token|signature|passw|passphrase|credential|authorization"
    r"|(?<![a-z])(sig|sas|o?auth|jwt|pwd|pass|bearer|hmac|policy|md5|hdnts|hdnea|hdntl)(?![a-z])",
    re.IGNORECASE,
)
"""What names a secret parameter: of S3, Google, Azure, CloudFront, Akamai, nginx and most others."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}::)*[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_NAME_CONTAINER = frozenset(["abfs", "abfss", "wasb", "wasbs"])
"""Azure's schemes, of which the name before the @ is no user: `abfs://container@account.dfs.core.windows.net/path`."""
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://([^/?#]*)@")
_PARAMETER = re.compile(r"[?#&;]([^=?#&;]*)=")
_PATH_TOKEN = re.compile(r"[/~](?:hdnts|hdnea|hdntl|hmac)=", re.IGNORECASE)
"""Akamai's tokens, which may be a part of the path."""

# In text, where an address ends is not known, and it may be part of another one's parameters.
ADDRESS_MARKS = ("://", "%3A%2F%2F")
"""A text in which neither is, in any case of letters, holds no address."""
_ADDRESS = re.compile("|".join(ADDRESS_MARKS), re.IGNORECASE)
_USER_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://([^/?#\s\"'<>]*)@")
_ENCODED_USER_IN_TEXT = re.compile(r"(%3A%2F%2F)(?:(?!%2F|%40)[^/?#&\s\"'<>])*%40", re.IGNORECASE)
_KEY_IN_TEXT = re.compile(
    r"(?:[?#&;~/]|%3F|%23|%26|%3B|%7E|%2F)((?:(?!%3D|%3F|%23|%26|%3B|%7E|%2F)[^=?#&;~/\s\"'<>])+)(?:=|%3D)",
    re.IGNORECASE,
)
_VALUE_IN_TEXT = re.compile(r"[^&;#\s\"'<>]*")
_PATH_KEY = re.compile(r"hdnts|hdnea|hdntl|hmac", re.IGNORECASE)
_MASK = "***"


def has_credentials(uri: str) -> bool:
    """Return whether a remote address carries a user name, a password, or a signed or secret parameter.

    >>> has_credentials("s3://key:secret@bucket/a"), has_credentials("s3://bucket/a?region=eu-west-1")
    (True, False)
    >>> has_credentials("abfs://container@account.dfs.core.windows.net/a")
    False
    >>> has_credentials("https://host/a.mp4#token=abc"), has_credentials("https://host/hdnts=exp=1~hmac=2/a.mp4")
    (True, True)
    """
    if uri.startswith("file://") or not _SCHEME.match(uri):
        return False
    users = (found for link in uri.split("::") if (found := _USER.match(link)))
    if any(_is_user(*found.groups()) for found in users):
        return True
    keys = _PARAMETER.findall(uri)
    return any(_SECRET_KEY.search(unquote(key)) for key in keys) or bool(_PATH_TOKEN.search(uri))


def _is_user(scheme: str, name: str) -> bool:
    return scheme.lower() not in _NAME_CONTAINER or ":" in name


def redacted(text: str) -> str:
    """Return `text` with the secrets of all addresses in it replaced by `***`.

    >>> redacted("GET https://ann:pw@host/a.mp4?X-Amz-Signature=1f&part=2 failed")
    'GET https://***@host/a.mp4?X-Amz-Signature=***&part=2 failed'
    """
    if not _ADDRESS.search(text):
        return text
    text = _USER_IN_TEXT.sub(_without_user, text)
    text = _ENCODED_USER_IN_TEXT.sub(rf"\1{_MASK}%40", text)
    parts, end = [], 0
    for found in _KEY_IN_TEXT.finditer(text):
        if found.start() >= end and _is_secret(found):
            parts += [text[end : found.end()], _MASK]
            end = _VALUE_IN_TEXT.match(text, found.end()).end()  # type: ignore[union-attr]  # matches everywhere
    return "".join([*parts, text[end:]])


def _is_secret(found: re.Match[str]) -> bool:
    """Return whether a key that was found in a text names a secret; in a path only Akamai's do."""
    in_path = found[0][0] in "/~" or found[0][:3].upper() in ("%2F", "%7E")
    keys = _PATH_KEY if in_path else _SECRET_KEY
    return bool(keys.search(unquote(unquote(found[1]))))


def _without_user(found: re.Match[str]) -> str:
    scheme, name = found.groups()
    return f"{scheme}://{_MASK}@" if _is_user(scheme, name) else found[0]
