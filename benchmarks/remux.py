"""Clips cut short and joined without decoding: their packets are copied, the timestamps shifted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class Clip:
    """The beginning of an H.264 video of constant frame rate.

    Attributes:
        path: Where the video is.
        num_frames: How many frames are taken; also how many packets, from the first on.
        frame_ticks: Duration of a frame, in the stream's time base.
        time_base: Seconds of a tick.
        decoder: What the decoder is set up with: size, pixel format, time base, frame duration, extradata. Clips of which
            it is equal can follow one another in one stream.
    """

    path: str
    num_frames: int
    frame_ticks: int
    time_base: Fraction
    decoder: tuple

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return float(self.num_frames * self.frame_ticks * self.time_base)


def beginning(path: str, *, at_most_s: float) -> Clip | None:
    """Return the longest usable beginning of the video at `path`, or None if it has none.

    It is a whole number of sampling strides long (`int(fps) + 1` frames), so that the frames sampled in it are those that
    are sampled in it when it follows others. And it is closed: no frame in it refers to one behind it.

    Args:
        path: Of a local video.
        at_most_s: Seconds that it may last.
    """
    with av.open(path) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != "h264" or not stream.codec_context.extradata:
            return None
        packets = [packet for packet in container.demux(stream) if packet.size]
        decoder = _decoder(stream)
        time_base, rate = stream.time_base, stream.average_rate
    pts = [packet.pts for packet in packets]
    if not rate or None in pts or len(pts) < 2:
        return None
    ticks = round(1 / rate / time_base)
    stride = int(rate) + 1
    most = int(Fraction(at_most_s) / (ticks * time_base))
    lengths = [length for length in closed_lengths(pts, ticks) if length <= most and length % stride == 0]
    return Clip(path, lengths[-1], ticks, time_base, (*decoder, ticks)) if lengths else None


def closed_lengths(pts: Sequence[int], ticks: int) -> list[int]:
    """Return how many packets from the first on make up all the frames up to some moment, ascending.

    Args:
        pts: (n,) timestamps in the order of decoding.
        ticks: Duration of a frame; a beginning with gaps or other durations is not closed.

    Example:
        >>> closed_lengths([0, 3, 1, 2, 6, 4, 5], 1)
        [1, 4, 7]
    """
    latest, found = pts[0], []
    for count, value in enumerate(pts, start=1):
        latest = max(latest, value)
        if latest == pts[0] + (count - 1) * ticks:
            found.append(count)
    return found


def _decoder(stream: VideoStream) -> tuple:
    context = stream.codec_context
    size = (context.width, context.height, context.pix_fmt)
    return *size, stream.time_base, bytes(context.extradata or b"")


def joinable(paths: Sequence[str], *, at_most_s: float) -> list[Clip]:
    """Return the beginnings of those of the videos at `paths` that one decoder can do, as many seconds as there are.

    Args:
        paths: Of local videos.
        at_most_s: Seconds of each that are taken at most.
    """
    alike: dict[tuple, list[Clip]] = defaultdict(list)
    for path in paths:
        if clip := beginning(path, at_most_s=at_most_s):
            alike[clip.decoder].append(clip)
    return max(alike.values(), key=lambda clips: sum(clip.duration_s for clip in clips), default=[])


def write(clips: Sequence[Clip], out: Path) -> None:
    """Write `clips`, all of one decoder, one after the other as one MP4 file without sound."""
    with av.open(clips[0].path) as container, av.open(str(out), "w", format="mp4") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        shift = 0
        for clip in clips:
            for packet in _shifted(clip, shift):
                packet.stream = stream
                target.mux(packet)
            shift += clip.num_frames * clip.frame_ticks


def _shifted(clip: Clip, shift: int) -> Iterator[Packet]:
    """Yield the packets of a clip that begins at `shift` ticks."""
    with av.open(clip.path) as container:
        packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
        start = None
        for packet in islice(packets, clip.num_frames):
            start = packet.pts if start is None else start
            packet.pts += shift - start
            packet.dts += shift - start
            yield packet
