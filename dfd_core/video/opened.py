"""A video that is open: its packets, and the decoder that they go through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from dfd_core.errors import VideoDamagedError, VideoOutOfMemoryError
from dfd_core.step_clock import StepClock
from dfd_core.video.bits import nal_length_size, starts_decoding
from dfd_core.video.colour import upright_rgb
from dfd_core.video.facts import Frame
from dfd_core.video.index import FramePosition
from dfd_core.video.sniff import VideoFile

FAULTS = (FFmpegError, ValueError, LookupError, ArithmeticError, RuntimeError)
"""What PyAV was seen to raise on damaged files, beside `MemoryError`. Caught around single calls of it only."""
MP4, MATROSKA, MPEGTS = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"
"""FFmpeg's names of three demuxers."""

_TIMED_HEADERS = (MATROSKA, "flv")
_MAY_SKIP = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")
"""Codecs whose decoder can leave out, packet by packet, a frame that no other refers to."""
_NAMED_ONCE = ("h264", "mpeg4")
"""Codecs whose encoder may name itself in the first packet only."""


def out_of_memory() -> VideoOutOfMemoryError:
    """Return the error of a video for which an allocation failed."""
    return VideoOutOfMemoryError("The video needs more memory than there is")


@dataclass(slots=True)
class OpenedVideo:
    """An open video, read once: from its start, or from a keyframe."""

    file: VideoFile
    container: InputContainer
    stream: VideoStream
    context: VideoCodecContext
    codec: str
    time_base: Fraction
    width: int
    """Pixels, as stored. A frame of another size, later in the video, is scaled to this one, as OpenCV does."""
    height: int
    clock: StepClock
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    num_packets: int = 0
    """Packets that went into the decoder, less those that show nothing."""
    num_frames: int = 0
    """Frames that came out of it."""
    num_errors: int = 0
    """Packets that did not decode, and frames that the decoder flagged."""
    first_error_s: float | None = None
    start_pts: int | None = None
    """Where decoding started. Frames shown earlier may lack what they refer to."""
    is_cut_short: bool = False
    """The demuxer failed, so what follows is unknown."""
    is_lost: bool = False
    """Seeking led past the keyframe that was needed."""

    @property
    def is_mp4(self) -> bool:
        """Whether the container is ISO base media: MP4, MOV, 3GP."""
        return self.container.format.name == MP4

    @property
    def is_timed(self) -> bool:
        """Whether the header states a duration that was measured when the file was written, not estimated."""
        return self.container.format.name in _TIMED_HEADERS

    @property
    def is_broken(self) -> bool:
        """Whether anything up to here did not decode."""
        return self.num_errors > 0

    def packets(self, *others: Stream) -> Iterator[Packet[VideoStream]]:
        """Yield the packets of the video and of the streams `others`, without a last one that the file's end cuts."""
        demuxed = self.container.demux(self.stream, *others)
        cut: Packet[VideoStream] | None = None
        while True:
            try:
                packet = next(demuxed, None)
            except MemoryError as error:
                raise out_of_memory() from error
            except FAULTS:
                packet = None
                self.is_cut_short = True
            self.file.check()
            if packet is None:
                self.is_cut_short = self.is_cut_short or cut is not None
                return
            if not packet.size:  # PyAV ends each stream with an empty one
                continue
            if cut is not None:
                yield cut
            is_cut = packet.is_corrupt and self.container.format.name != MPEGTS
            cut = cast("Packet[VideoStream]", packet) if is_cut else None
            if not is_cut:
                yield cast("Packet[VideoStream]", packet)

    def packets_from(self, pts: int, seeks: bool) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from the keyframe that the frame at `pts` needs, or from the start if not `seeks`."""
        is_started = not (seeks and self._seek(pts))
        is_first = is_started
        for packet in self.packets():
            if is_first and packet.pts != pts:
                self._show(packet)
            is_first = False
            if not is_started:
                is_started = self.can_start(packet, pts)
                self.start_pts = packet.pts
                if packet.pts == pts and not is_started:
                    break
            if is_started:
                yield packet
        self.is_lost = not is_started

    def _seek(self, pts: int) -> bool:
        if self.container.format.name not in (MP4, MATROSKA):
            return False  # elsewhere timestamps after seeking may differ from those of the first pass
        self._show(next(self.packets(), None))
        with suppress(*FAULTS):  # the packets that follow show where the seek led
            self.container.seek(pts, stream=self.stream)
        self.file.check()
        return True

    def _show(self, first: Packet[VideoStream] | None) -> None:
        """Show the decoder the video's first packet without decoding it: it may hold what all others need.

        Some encoders name themselves only there. FFmpeg knows the faults of old versions of x264 (4:4:4) and of Xvid;
        without the name their frames come out wrong.
        """
        if first is not None and self.codec in _NAMED_ONCE:
            self.context.skip_frame = "ALL"
            with suppress(*FAULTS):
                self.context.decode(first)
            self.context.flush_buffers()
            self.context.skip_frame = "DEFAULT"

    def can_start(self, packet: Packet[VideoStream], pts: int) -> bool:
        """Return whether the frames from `pts` on decode exactly from this packet on."""
        if not packet.is_keyframe or packet.pts is None or packet.pts > pts:
            return False
        return starts_decoding(
            self.codec, memoryview(packet), nal_length_size(self.codec, self.context.extradata)
        )

    def restart(self, packet: Packet[VideoStream], *, has_due: bool) -> list[VideoFrame]:
        """Forget everything before `packet`; return what the decoder still held if a wanted frame is among it."""
        frames = self.decode(None) if has_due else []
        self.context.flush_buffers()
        self.start_pts = packet.pts
        return frames

    def decode(self, packet: Packet[VideoStream] | None, *, is_needed: bool = True) -> list[VideoFrame]:
        """Return the frames that come out after `packet` went in (None ends them), counting what fails.

        If the packet is not `is_needed`, its frame may be left out where no other refers to it.
        """
        if self.codec in _MAY_SKIP:
            self.context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        try:
            frames = self.context.decode(packet)
        except MemoryError as error:
            raise out_of_memory() from error
        except FAULTS:
            self._count_error(packet.pts if packet else None)
            return []
        self.num_packets += packet is not None and not packet.is_discard
        self.num_frames += len(frames)
        for frame in frames:
            if frame.is_corrupt:
                self._count_error(frame.pts)
        return frames

    def _count_error(self, pts: int | None) -> None:
        if pts is not None and self.start_pts is not None and pts < self.start_pts:
            return
        self.num_errors += 1
        if self.first_error_s is None and pts is not None:
            self.first_error_s = float((pts - (self.stream.start_time or 0)) * self.time_base)

    def frames(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Yield every frame that decodes, carrying on past those that do not."""
        for packet in packets:
            yield from self.decode(packet)
        yield from self.decode(None)

    def frame_shown_first(self, packet: Packet[VideoStream]) -> VideoFrame | None:
        """Return the first frame of `packet`, one of the video's first, for its properties: its pixels are not right."""
        self.context.options = {**self.context.options, "skip_loop_filter": "all", "skip_idct": "all"}
        frames = self.decode(packet)
        if not packet.is_discard:
            frames += self.decode(None)
            self.context.flush_buffers()
        return frames[0] if frames else None

    def frame_at(self, position: FramePosition, frame: VideoFrame) -> Frame:
        """Return `frame` as upright RGB.

        Raises:
            VideoDamagedError: It cannot be converted.
        """
        with self.clock.during("convert"):
            try:
                rgb = upright_rgb(frame, self.reformatter, width=self.width, height=self.height)
            except MemoryError as error:
                raise out_of_memory() from error
            except FAULTS as error:
                raise VideoDamagedError(
                    f"The frame at {position.time_s:.2f} s cannot be converted to RGB"
                ) from error
        return Frame(position.index, position.time_s, rgb)
