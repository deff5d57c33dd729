"""Why a storage refused a request, in one line and without the address."""

from __future__ import annotations

import os
import posixpath
import re

import pyarrow.fs as pafs

from dfd_core.storage.address import Address
from dfd_core.storage.text import one_line

_AWS_EXCEPTION = re.compile(r"ExceptionName: (\w+) Message: (.*?)(?: \(Request ID|$)")


def reason_of(error: BaseException) -> str:
    """Return what the system says of `error`, without the address where it says one.

    >>> reason_of(OSError("When reading information for key 'a' in bucket 'b': AWS Error SLOW_DOWN during HeadObject"))
    'AWS Error SLOW_DOWN during HeadObject'
    """
    text = one_line(getattr(error, "strerror", None) or error)
    named = _AWS_EXCEPTION.search(text)
    if named:
        return f"{named[2].rstrip('. ')} ({named[1]})"
    if "AWS Error" in text:
        return text[text.index("AWS Error") :]
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else text or type(error).__name__


def refusal_of(address: Address, error: OSError) -> str:
    """Return why the storage refused a request for `address`, in one line.

    An S3 server answers a question about one object without a reason; it gives one to a request for a list.
    """
    if "AWS Error" in str(error):
        inside = posixpath.join(address.path, "-")
        try:
            address.fs.get_file_info(pafs.FileSelector(inside, allow_not_found=True))
        except OSError as told:
            return reason_of(told)
    return reason_of(error)
