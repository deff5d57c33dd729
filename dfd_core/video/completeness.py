"""Whether all of a video is there: what its container or its decoder could not read, as an error."""

from __future__ import annotations

import av

from dfd_core.errors import VideoDamagedError, VideoError, VideoTruncatedError, VideoUndecodableError
from dfd_core.video.opened import OpenedVideo
from dfd_core.video.sniff import declared_size


def container_fault(video: OpenedVideo, num_read: int, *, end_s: float) -> VideoError | None:
    """Return what of the file could not be read, once all of its `num_read` video packets were.

    Args:
        video: Read to its end.
        num_read: Packets of the video stream.
        end_s: Where the last packet of any stream ends, seconds; only looked at if the header's duration was measured.
    """
    num_expected = len(video.stream.index_entries) if video.is_mp4 else video.stream.frames
    text = f"{num_read} of {num_expected} frames" if num_read < num_expected else f"{num_read} frames"
    if video.is_cut_short and not video.file.met_end:
        return VideoDamagedError(f"The container is damaged: {text} can be read")
    is_short = num_read < num_expected if video.is_mp4 else _is_short_of_header(video, num_read, end_s)
    if is_short or video.is_cut_short:
        return VideoTruncatedError(f"The file ends before its header says: {text} are there")
    return None


def _is_short_of_header(video: OpenedVideo, num_read: int, end_s: float) -> bool:
    declared = declared_size(video.file.head())
    if declared is not None and declared > video.file.size + 1:
        return video.stream.frames == 0 or num_read < video.stream.frames
    header_s = (video.container.duration or 0) / av.time_base
    return video.is_timed and end_s < 0.95 * header_s - 1.0


def undecodable() -> VideoUndecodableError:
    """Return the error of a video that opens and yields no frame."""
    return VideoUndecodableError("The file opens as a video, but not one frame of it decodes")


def refuse_broken(video: OpenedVideo, *, num_missing: int, num_wanted: int) -> None:
    """Raise what a pass that decoded everything has met.

    Raises:
        VideoTruncatedError: The video ends before the last wanted frame.
        VideoDamagedError: Something did not decode.
    """
    if not num_missing and not video.is_broken:
        return
    missing = f"{num_missing} of {num_wanted} wanted frames are missing"
    is_complete = not video.is_broken and video.num_frames >= video.num_packets
    if is_complete or (video.is_cut_short and video.file.met_end):
        raise VideoTruncatedError(f"The video ends early: {missing}")
    where = "" if video.first_error_s is None else f", the first at {video.first_error_s:.2f} s"
    raise VideoDamagedError(f"The video is damaged: {missing}, {video.num_errors} errors in decoding{where}")
