"""Opening a video wherever it lies, and asking again where its storage fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from dfd_core.errors import (
    RequestError,
    VideoEmptyError,
    VideoForbiddenError,
    VideoMissingError,
    VideoStorageError,
)
from dfd_core.storage.address import Address, NoAddressError
from dfd_core.storage.files import NotAFileError, open_file
from dfd_core.storage.reasons import reason_of

RETRY_DELAYS_S = (0.5, 2.0, 8.0)
"""Seconds before each further attempt at a video whose storage failed."""


def open_video(uri: str) -> BinaryIO:
    """Return the video at `uri`, opened for reading and seekable.

    Raises:
        VideoMissingError: Nothing is there, or it is not a file.
        VideoForbiddenError: It may not be read.
        VideoEmptyError: It has zero bytes.
        VideoStorageError: The storage failed.
    """
    try:
        file = open_file(Address.parse(uri))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoMissingError("Nothing is at this address") from error
    except (IsADirectoryError, NotAFileError) as error:
        raise VideoMissingError("Not a regular file is at this address") from error
    except PermissionError as error:
        raise VideoForbiddenError("The file may not be read") from error
    except NoAddressError as error:
        raise VideoMissingError("Nothing can be at this address") from error
    except (OSError, RequestError) as error:
        if "AWS Error ACCESS_DENIED" in str(error):
            raise VideoForbiddenError("The file may not be read") from error
        raise VideoStorageError(f"The storage failed: {reason_of(error)}") from error
    if _size(file) == 0:
        file.close()
        raise VideoEmptyError("The file has zero bytes")
    file.seek(0)
    return file


def _size(file: BinaryIO) -> int:
    try:
        return file.seek(0, os.SEEK_END)
    except OSError as error:  # the kernel calls /proc/self/mem a regular file, and it has no end
        file.close()
        raise VideoMissingError("Not a regular file is at this address") from error


def retried(
    attempt: Callable[[], dict[str, Any]], *, delays_s: Sequence[float] = RETRY_DELAYS_S
) -> dict[str, Any]:
    """Return the row of `attempt`, made again after each delay for as long as the storage is what failed.

    Args:
        attempt: Makes a row with an `error_kind`.
        delays_s: Seconds to wait before each further attempt.
    """
    for delay_s in delays_s:
        row = attempt()
        if row["error_kind"] != VideoStorageError.kind:
            return row
        time.sleep(delay_s)
    return attempt()
