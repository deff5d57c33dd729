"""Every failure that the project expects, as one tree.

DfdError
├── RequestError               the request is unusable: exit status 2, nothing was written
│   ├── ManifestError            the list of videos breaks the rules
│   ├── ModelError               the model cannot be used
│   ├── OutputError              the output folder cannot be used
│   └── SandboxError             the process that decodes cannot be confined as was asked for
└── VideoError                 one video's fault: becomes a row, never an exit. Each has a `kind`
    ├── VideoMissingError        missing            nothing is at the address
    ├── VideoForbiddenError      forbidden          it exists and may not be read
    ├── VideoStorageError        storage            the storage failed while it was read
    ├── VideoEmptyError          empty              zero bytes
    ├── NotAVideoError           not_a_video        text, a page, a picture, a playlist, …
    ├── VideoUnreadableError     unreadable         the container cannot be opened
    ├── NoVideoStreamError       no_video_stream    the container holds no video stream
    ├── UnsupportedCodecError    unsupported_codec  no decoder for the video stream
    ├── VideoUndecodableError    undecodable        it opens, and not one frame decodes
    ├── VideoTruncatedError      truncated          it ends before its own header says
    ├── VideoDamagedError        damaged            some frames do not decode
    ├── VideoTooLargeError       too_large          more pixels a frame than the limit
    ├── VideoTooLongError        too_long           longer than the limit
    ├── VideoTooExpensiveError   too_expensive      more work than the limit, or than its size accounts for
    ├── VideoTimeoutError        timeout            a segment took longer than its limit
    ├── VideoOutOfMemoryError    out_of_memory      a segment took more memory than its limit
    ├── VideoCrashedError        crashed            the decoding process died
    ├── UnscorableError          unscorable         the model returned no number for a face
    └── UnexpectedError          unexpected         a fault of this program; always zero in the tests
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class DfdError(Exception):
    """Base of every failure that the project expects."""


class RequestError(DfdError):
    """The request is unusable and nothing was written; a job exits with status 2."""


class ManifestError(RequestError):
    """The list of videos breaks the manifest's rules; the message names the rows."""


class ModelError(RequestError):
    """The model cannot be found, read, trusted or built."""


class OutputError(RequestError):
    """The output folder cannot be written, or belongs to another configuration."""


class SandboxError(RequestError):
    """The process that decodes cannot be confined as was asked for."""


class VideoError(DfdError):
    """One video, or a part of it, cannot be used; `kind` goes into `error_kind`."""

    kind: ClassVar[str]


class VideoMissingError(VideoError):
    """Nothing is at the video's address."""

    kind = "missing"


class VideoForbiddenError(VideoError):
    """The video exists and may not be read."""

    kind = "forbidden"


class VideoStorageError(VideoError):
    """The storage failed while the video was read."""

    kind = "storage"


class VideoEmptyError(VideoError):
    """The file has zero bytes."""

    kind = "empty"


class NotAVideoError(VideoError):
    """The file is something else: text, a page, a picture, a playlist."""

    kind = "not_a_video"


class VideoUnreadableError(VideoError):
    """The container cannot be opened."""

    kind = "unreadable"


class NoVideoStreamError(VideoError):
    """The container holds no video stream."""

    kind = "no_video_stream"


class UnsupportedCodecError(VideoError):
    """There is no decoder for the video stream."""

    kind = "unsupported_codec"


class VideoUndecodableError(VideoError):
    """The container opens, and not one frame decodes."""

    kind = "undecodable"


class VideoTruncatedError(VideoError):
    """The file ends before its own header says."""

    kind = "truncated"


class VideoDamagedError(VideoError):
    """Some of the frames do not decode."""

    kind = "damaged"


class VideoTooLargeError(VideoError):
    """A frame has more pixels than the limit."""

    kind = "too_large"


class VideoTooLongError(VideoError):
    """The video is longer than the limit."""

    kind = "too_long"


class VideoTooExpensiveError(VideoError):
    """The video asks for more work than its limit, or than its size accounts for."""

    kind = "too_expensive"


class VideoTimeoutError(VideoError):
    """A segment took longer than its limit."""

    kind = "timeout"


class VideoOutOfMemoryError(VideoError):
    """A segment took more memory than its limit."""

    kind = "out_of_memory"


class VideoCrashedError(VideoError):
    """The process that decoded a segment died."""

    kind = "crashed"


class UnscorableError(VideoError):
    """The model returned no number for a face."""

    kind = "unscorable"


class UnexpectedError(VideoError):
    """A fault of this program met while it handled the video."""

    kind = "unexpected"


ERROR_KINDS: tuple[str, ...] = tuple(sorted(error.kind for error in VideoError.__subclasses__()))
"""The closed set of `error_kind`: one for each kind of `VideoError`."""


@contextmanager
def as_model_error(problem: str) -> Iterator[None]:
    """Turn any exception of Keras or TensorFlow in the block into one line that begins with `problem`.

    Raises:
        ModelError: Something was raised.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"{problem}: {(lines or [type(error).__name__])[0][:300]}") from error
