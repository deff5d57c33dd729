"""Open untrusted videos, state their facts and return exact frames. The only importer of `av`.

A video is always an already opened, seekable, binary file object: FFmpeg itself never opens anything. What FFmpeg,
PyAV and the file object raise leaves this module as a `VideoError`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from math import atan2, degrees, hypot
from typing import Any, BinaryIO, NoReturn, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from dfd_core.errors import (
    NotAVideoError,
    NoVideoStreamError,
    UnsupportedCodecError,
    VideoDamagedError,
    VideoError,
    VideoOutOfMemoryError,
    VideoTooLargeError,
    VideoTruncatedError,
    VideoUndecodableError,
    VideoUnreadableError,
)
from dfd_core.step_clock import StepClock
from dfd_core.video.bits import nal_length_size, num_frames_shown, starts_decoding
from dfd_core.video.decode import all_counted, all_decoded, keyframes_decoded, least_decoded
from dfd_core.video.index import FrameIndex, FramePosition, PacketFacts, keyframes_of, pts_in_order
from dfd_core.video.sniff import (
    VideoFile,
    declared_size,
    is_audio,
    is_iso_media,
    is_picture_brand,
    other_kind,
)

__all__ = ["Frame", "FrameIndex", "FramePosition", "VideoFacts", "decode_frames", "index_frames", "probe"]

_DEMUXERS = (
    "mov,matroska,avi,flv,live_flv,kux,mpegts,mpeg,mpegvideo,asf,ogg,ivf,nut,mxf,gxf,rm,wtv,dv,nsv,nuv,av1,obu,h261,"
    "h263,h264,hevc,vvc,m4v,vc1,vc1test,dirac,cavsvideo,avs2,avs3,yuv4mpegpipe"
)
"""Every other one is refused: playlists, picture sequences, subtitles, scripts, devices."""

_MP4, _MATROSKA, _MPEGTS = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"
_TIMED_HEADERS = (_MATROSKA, "flv")
"""Containers whose header states a duration that was written, not estimated."""
_AVFMT_FLAG_GENPTS = 1
_BUFFER_BYTES = 1 << 19
_NUM_HEAD_PACKETS = 100
_ASSUMED_FPS = 25
_MAY_SKIP = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")
"""Codecs whose decoder leaves out a frame that no other refers to, packet by packet, when asked to."""
_NAMED_ONCE = ("h264", "mpeg4")
"""Codecs whose encoder may name itself in the first packet only."""
_KEPT_PRIMARIES = (
    ColorPrimaries.UNSPECIFIED,
    ColorPrimaries.BT709,
    ColorPrimaries.BT470M,
    ColorPrimaries.BT470BG,
    ColorPrimaries.SMPTE170M,
    ColorPrimaries.SMPTE240M,
)
_HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_KNOWN_PRIMARIES, _KNOWN_TRANSFERS = frozenset(map(int, ColorPrimaries)), frozenset(map(int, ColorTrc))
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FAULTS = (FFmpegError, ValueError, LookupError, ArithmeticError, RuntimeError)
"""What PyAV was seen to raise on damaged files, beside `MemoryError`. Caught around single calls of it only."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video's header says."""

    container: str
    codec: str
    pixel_format: str
    width: int
    """Pixels, as displayed: after rotation."""
    height: int
    """Pixels, as displayed: after rotation."""
    rotation_deg: int
    """Clockwise turn that makes the stored frames upright: 0, 90, 180 or 270. `decode_frames` applies it."""
    fps: float | None
    """Average frames per second, as OpenCV's CAP_PROP_FPS; None if the header does not tell."""
    duration_s: float | None
    """Of the video stream, else of the container; None if the header does not tell."""
    num_frames_from_header: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame."""

    index: int
    """Position in the sequence of frames that a full decode returns, from 0."""
    time_s: float
    """Seconds since the video's first frame."""
    rgb: npt.NDArray[np.uint8]
    """(height, width, 3) uint8, 0 to 255, RGB, upright, C-contiguous."""


def probe(file: BinaryIO, *, max_pixels: int | None = None) -> VideoFacts:
    """Return what the header of the video in `file` says.

    Args:
        file: Opened for reading in binary, seekable.
        max_pixels: The most pixels that a frame may have; None for FFmpeg's own limit.

    Raises:
        VideoTooLargeError: A frame has more than `max_pixels`.
        VideoError: The video cannot be opened: empty, not_a_video, unreadable, no_video_stream, unsupported_codec,
            storage or out_of_memory.
    """
    with _opened(file, max_pixels) as video:
        stream, width, height = video.stream, video.width, video.height
        rate = stream.average_rate or stream.guessed_rate
        first = next(
            filter(None, map(video.frame_shown_first, islice(video.packets(), _NUM_HEAD_PACKETS))), None
        )
        angle_deg = _rotation_deg(first) if first else 0
        rotation_deg = angle_deg if angle_deg in _TURNS else 0
        is_turned = rotation_deg in (90, 270)
        return VideoFacts(
            container=video.container.format.name,
            codec=video.codec,
            pixel_format=video.context.pix_fmt or "unknown",
            width=height if is_turned else width,
            height=width if is_turned else height,
            rotation_deg=rotation_deg,
            fps=float(rate) if rate else None,
            duration_s=_duration_s(video),
            num_frames_from_header=stream.frames or None,
        )


def index_frames(file: BinaryIO, *, max_pixels: int | None = None) -> FrameIndex:
    """Return every frame that a full decode of `file` returns, from one pass over its packets.

    Where packets do not tell (timestamps missing or doubled, interlaced pictures, codecs whose packets do not match
    frames, a damaged beginning), all frames are decoded once to know them, and `is_exact` is False. Their keyframes are then
    those that the decoder says, and to have them everything is decoded again.

    Raises:
        VideoUndecodableError: Not one frame of the file decodes.
        VideoError: As for `probe`.
    """
    with _opened(file, max_pixels) as video:
        packets = list(video.packet_facts())
        fault = video.fault(len(packets))
    pts = pts_in_order(packets)
    if pts and video.begins_well:
        end = max(packet.pts + packet.duration for packet in packets if packet.pts is not None)
        index = _frame_index(pts, end, video.time_base, is_exact=True, fault=fault)
        return replace(index, keyframes=keyframes_of(packets, pts))
    return _counted_index(file, max_pixels, fault)


def decode_frames(
    file: BinaryIO,
    positions: Sequence[FramePosition],
    *,
    max_pixels: int | None = None,
    clock: StepClock | None = None,
) -> Iterator[Frame]:
    """Return an iterator over the frames at `positions`, bit-identical to those that a full decode returns.

    Where every position has its `pts`, decoding starts at the keyframe before the first one and leaves out what no
    wanted frame needs: where all are keyframes, everything but their own packets. If that meets anything broken, the rest
    is decoded again without leaving anything out, and counted from the start if the first position is frame 0: as far as
    OpenCV's loop (of one thread: with more, it does not repeat itself) reads a damaged video, the frames are those of that
    loop; beyond, decoding and counting go on.

    Args:
        file: Opened for reading in binary, seekable.
        positions: By ascending index.
        max_pixels: The most pixels that a frame may have; None for FFmpeg's own limit.
        clock: Is told when a decoded frame becomes upright RGB (`convert`), and when that is done.

    Raises:
        ValueError: `positions` do not ascend.
        VideoTruncatedError: After the last frame that could be had; the video ends before the others.
        VideoDamagedError: After the last frame that could be had; something up to there did not decode.
        VideoUndecodableError: Not one frame of the video decodes.
        VideoError: As for `probe`.
    """
    if any(earlier.index >= later.index for earlier, later in pairwise(positions)):
        raise ValueError("Expected positions of ascending index")
    opened = partial(_opened, file, max_pixels, clock)
    return _decoded(opened, list(positions)) if positions else iter(())


def _counted_index(file: BinaryIO, max_pixels: int | None, fault: VideoError | None) -> FrameIndex:
    """Return the index of a video of which every frame must be decoded to know its frames."""
    with _opened(file, max_pixels) as video:
        frames = [(frame.pts, frame.duration, frame.key_frame) for frame in video.frames(video.packets())]
        if not frames:
            raise video.undecodable()
        pts: Sequence[int] = [pts for pts, *_ in frames if pts is not None]
        end, time_base = pts[-1] + frames[-1][1] if pts else 0, video.time_base
        if len(pts) < len(frames) or any(earlier > later for earlier, later in pairwise(pts)):
            pts, end = range(len(frames)), len(frames)
            time_base = 1 / Fraction(video.stream.average_rate or _ASSUMED_FPS)
        index = _frame_index(pts, end, time_base, is_exact=False, fault=fault)
        return replace(index, keyframes=np.flatnonzero([is_key for *_, is_key in frames]).astype(np.int64))


def _frame_index(
    pts: Sequence[int], end: int, time_base: Fraction, *, is_exact: bool, fault: VideoError | None
) -> FrameIndex:
    if end <= pts[-1] and len(pts) > 1:  # the last frame's duration is unknown: as long as the average
        end = pts[-1] + round((pts[-1] - pts[0]) / (len(pts) - 1))
    return FrameIndex(np.array(pts, np.int64), time_base, is_exact, float((end - pts[0]) * time_base), fault)


def _decoded(opened: _Opened, positions: Sequence[FramePosition]) -> Iterator[Frame]:
    due = list(reversed(positions))
    has_pts = all(position.pts is not None for position in positions)
    if has_pts and all(position.is_keyframe for position in positions):
        yield from _from_keyframe(keyframes_decoded, opened, due)
    if has_pts and due:
        yield from _from_keyframe(least_decoded, opened, due)
    if not due:
        return
    if has_pts and positions[0].index > 0:
        video = yield from _from_keyframe(all_decoded, opened, due)
    else:
        with opened() as video:
            yield from all_counted(video, due)
            if not video.num_frames:
                raise video.undecodable()
    video.raise_broken(num_missing=len(due), num_wanted=len(positions))


def _from_keyframe(
    decode: Callable[[OpenVideo, list[FramePosition], bool], Iterator[Frame]],
    opened: _Opened,
    due: list[FramePosition],
) -> Generator[Frame, None, OpenVideo]:
    """Yield what `decode` yields from the keyframe before the next frame, or from the start if seeking misses that."""
    seeks = due[-1].index > 0
    while True:
        with opened() as video:
            yield from decode(video, due, seeks)
        if not (seeks and video.is_lost):
            return video
        seeks = False


_Opened = Callable[[], AbstractContextManager["OpenVideo"]]
"""Opens the same file from its start, each time."""


@dataclass(slots=True)
class OpenVideo:
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
    """Where decoding started: what is shown before may lack what it refers to."""
    is_cut_short: bool = False
    """The demuxer failed: what comes after is not known."""
    is_lost: bool = False
    """Seeking led past the keyframe that was needed."""
    last_end_s: float = 0.0
    first_frame: VideoFrame | None = None
    first_frame_pts: int | None = None
    """Of the packet that `first_frame` came of."""

    @property
    def is_mp4(self) -> bool:
        return self.container.format.name == _MP4

    @property
    def is_timed(self) -> bool:
        """Whether the header states a duration that was measured when the file was written."""
        return self.container.format.name in _TIMED_HEADERS

    @property
    def is_broken(self) -> bool:
        return self.num_errors > 0

    def packets(self, *others: Stream) -> Iterator[Packet[VideoStream]]:
        """Yield the packets of the video, and of the streams `others`, less a last one in which the file ends."""
        demuxed = self.container.demux(self.stream, *others)
        cut: Packet[VideoStream] | None = None
        while True:
            try:
                packet = next(demuxed, None)
            except MemoryError as error:
                raise _out_of_memory() from error
            except _FAULTS:
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
            is_cut = packet.is_corrupt and self.container.format.name != _MPEGTS
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
        if self.container.format.name not in (_MP4, _MATROSKA):
            return False  # elsewhere timestamps after seeking may differ from those of the first pass
        self._show(next(self.packets(), None))
        with suppress(*_FAULTS):  # the packets tell where that led
            self.container.seek(pts, stream=self.stream)
        self.file.check()
        return True

    def _show(self, first: Packet[VideoStream] | None) -> None:
        """Show the decoder the first packet, which may hold what all others need, where it may not come to decode it.

        An encoder names itself only there, and FFmpeg decodes what old versions of x264 (4:4:4) and Xvid made with their
        faults in mind: without that name the frames come out wrong.
        """
        if first is not None and self.codec in _NAMED_ONCE:
            self.context.skip_frame = "ALL"
            with suppress(*_FAULTS):
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
        """Return what the decoder still holds if a wanted frame is among it; forget everything before `packet`."""
        frames = self.decode(None) if has_due else []
        self.context.flush_buffers()
        self.start_pts = packet.pts
        return frames

    def decode(self, packet: Packet[VideoStream] | None, *, is_needed: bool = True) -> list[VideoFrame]:
        """Return the frames that come out after `packet` went in (None ends them), counting what fails.

        A frame that is not needed, not even by others, may be left out.
        """
        if self.codec in _MAY_SKIP:
            self.context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        try:
            frames = self.context.decode(packet)
        except MemoryError as error:
            raise _out_of_memory() from error
        except _FAULTS:
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
        """Return the first frame that comes of `packet`, one of the first, for its properties but not its pixels."""
        self.context.options = {**self.context.options, "skip_loop_filter": "all", "skip_idct": "all"}
        frames = self.decode(packet)
        if not packet.is_discard:
            frames += self.decode(None)
            self.context.flush_buffers()
        return frames[0] if frames else None

    @property
    def begins_well(self) -> bool:
        """Whether the first frame that `packet_facts` met is whole, not interlaced, and shown when its packet says."""
        first = self.first_frame
        is_whole = first is not None and not first.interlaced_frame and first.pts == self.first_frame_pts
        return is_whole and not self.is_broken

    def frame_at(self, position: FramePosition, frame: VideoFrame) -> Frame:
        """Return `frame` as RGB, upright: converted by swscale with OpenCV's settings, so that the bits are equal."""
        with self.clock.during("convert"):
            return Frame(position.index, position.time_s, self._upright_rgb(position, frame))

    def _upright_rgb(self, position: FramePosition, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        primaries, transfer = _target_colors(frame)
        # swscale gives the same bits in both orders unless it scales or rounds deeper video: then OpenCV's is turned.
        is_plain = frame.format.components[0].bits == 8 and (frame.width, frame.height) == (
            self.width,
            self.height,
        )
        order = "rgb24" if is_plain else "bgr24"
        try:
            converted = self.reformatter.reformat(
                frame,
                self.width,
                self.height,
                order,
                interpolation=Interpolation.BICUBIC,
                dst_color_primaries=primaries,
                dst_color_trc=transfer,
                threads=1,
            )
        except MemoryError as error:
            raise _out_of_memory() from error
        except _FAULTS as error:
            raise VideoDamagedError(
                f"The frame at {position.time_s:.2f} s cannot be converted to RGB"
            ) from error
        turn = _TURNS.get(_rotation_deg(frame))
        pixels = converted.to_ndarray()
        if order == "bgr24":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        upright = pixels if turn is None else cv2.rotate(pixels, turn)
        return np.ascontiguousarray(upright, np.uint8)

    def packet_facts(self) -> Iterator[PacketFacts]:
        """Yield what each packet of the video tells of its frames."""
        others = [
            stream for stream in self.container.streams if self.is_timed and stream.index != self.stream.index
        ]
        num_packets = 0
        for packet in self.packets(*others):
            if self.is_timed and packet.pts is not None:
                self.last_end_s = max(
                    self.last_end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base)
                )
            if packet.stream_index != self.stream.index:
                continue
            if packet.has_sidedata("encryption_info"):
                raise VideoUndecodableError("The video is encrypted")
            if self.first_frame is None and num_packets < _NUM_HEAD_PACKETS:
                self.first_frame, self.first_frame_pts = self.frame_shown_first(packet), packet.pts
            num_packets += 1
            yield PacketFacts(
                pts=packet.pts,
                duration=packet.duration or 0,
                is_keyframe=packet.is_keyframe,
                num_frames=0 if packet.is_discard else num_frames_shown(self.codec, memoryview(packet)),
                starts_decoding=packet.pts is not None and self.can_start(packet, packet.pts),
            )

    def fault(self, num_read: int) -> VideoError | None:
        """Return what of the file could not be read, once `packet_facts` has given its last of `num_read` packets."""
        num_expected = len(self.stream.index_entries) if self.is_mp4 else self.stream.frames
        text = f"{num_read} of {num_expected} frames" if num_read < num_expected else f"{num_read} frames"
        if self.is_cut_short and not self.file.met_end:
            return VideoDamagedError(f"The container is damaged: {text} can be read")
        is_short = num_read < num_expected if self.is_mp4 else self._is_short_of_header(num_read)
        if is_short or self.is_cut_short:
            return VideoTruncatedError(f"The file ends before its header says: {text} are there")
        return None

    def _is_short_of_header(self, num_read: int) -> bool:
        declared = declared_size(self.file.head())
        if declared is not None and declared > self.file.size + 1:
            return self.stream.frames == 0 or num_read < self.stream.frames
        header_s = (self.container.duration or 0) / av.time_base
        return self.is_timed and self.last_end_s < 0.95 * header_s - 1.0

    def undecodable(self) -> VideoUndecodableError:
        return VideoUndecodableError("The file opens as a video, but not one frame of it decodes")

    def raise_broken(self, *, num_missing: int, num_wanted: int) -> None:
        """Raise what a pass that decoded everything has met.

        Raises:
            VideoTruncatedError: The video ends before the last wanted frame.
            VideoDamagedError: Something did not decode.
        """
        if not num_missing and not self.is_broken:
            return
        missing = f"{num_missing} of {num_wanted} wanted frames are missing"
        is_complete = not self.is_broken and self.num_frames >= self.num_packets
        if is_complete or (self.is_cut_short and self.file.met_end):
            raise VideoTruncatedError(f"The video ends early: {missing}")
        where = "" if self.first_error_s is None else f", the first at {self.first_error_s:.2f} s"
        raise VideoDamagedError(
            f"The video is damaged: {missing}, {self.num_errors} errors in decoding{where}"
        )


@contextmanager
def _opened(file: BinaryIO, max_pixels: int | None, clock: StepClock | None = None) -> Generator[OpenVideo]:
    """Open `file` as a video and choose its stream.

    Raises:
        VideoError: As `probe` says.
    """
    source = VideoFile(file)
    limits = {} if max_pixels is None else {"max_pixels": str(max_pixels)}
    try:
        container = av.open(
            source,
            "r",
            options=limits,
            container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"},
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse_to_open,
        )
    except MemoryError as error:
        source.check()
        raise _out_of_memory() from error
    except _FAULTS as error:
        source.check()
        raise _not_opened(source.head()) from error
    source.check()
    with container:
        container.flags &= ~_AVFMT_FLAG_GENPTS
        stream = _chosen_stream(container)
        context = stream.codec_context
        width, height = context.width, context.height
        if max_pixels is not None and width * height > max_pixels:
            raise VideoTooLargeError(f"A frame has {width} x {height} pixels, the limit is {max_pixels}")
        context.thread_count = 1
        context.options = limits
        yield OpenVideo(
            source,
            container,
            stream,
            context,
            codec=context.codec.canonical_name,
            time_base=Fraction(stream.time_base or 1),
            width=width,
            height=height,
            clock=clock or StepClock("decode"),
        )


def _chosen_stream(container: InputContainer) -> VideoStream:
    """Return the first stream that is a video and no picture, as OpenCV does."""
    if is_picture_brand(container.metadata.get("major_brand", "")):
        raise NotAVideoError("The file is a picture")
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    stream = next((s for s in container.streams.video if not int(s.disposition) & pictures.value), None)
    if stream is None:
        raise NoVideoStreamError("The file holds no video stream")
    if stream.codec_context is None:
        raise UnsupportedCodecError("There is no decoder for the video stream")
    return stream


def _not_opened(head: bytes) -> VideoError:
    """Return why a file with these first bytes does not open."""
    if is_audio(head):
        return NoVideoStreamError("The file holds sound only")
    kind = other_kind(head)
    if kind is not None:
        return NotAVideoError(f"The file is {kind}")
    if is_iso_media(head):
        return VideoUnreadableError("The container cannot be opened: its index (moov) is missing or damaged")
    return VideoUnreadableError("The container cannot be opened: it is damaged or incomplete")


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise ValueError("A video may not open other files")


def _out_of_memory() -> VideoOutOfMemoryError:
    return VideoOutOfMemoryError("The video needs more memory than there is")


def _duration_s(video: OpenVideo) -> float | None:
    if video.stream.duration is not None:
        return float(video.stream.duration * video.time_base)
    duration: int | None = video.container.duration
    return None if duration is None else duration / av.time_base


def _rotation_deg(frame: VideoFrame) -> int:
    """Return the clockwise turn that makes `frame` upright, in whole degrees within 0 to 359, as OpenCV reads it."""
    side_data = cast("Mapping[str, Any]", frame.side_data).get("DISPLAYMATRIX")
    if side_data is None:
        return 0
    matrix = np.frombuffer(side_data, np.int32)
    scales = hypot(matrix[0], matrix[3]), hypot(matrix[1], matrix[4])
    if 0.0 in scales:
        return 0
    return round(degrees(atan2(matrix[1] / scales[1], matrix[0] / scales[0]))) % 360


def _target_colors(frame: VideoFrame) -> tuple[ColorPrimaries | None, ColorTrc | None]:
    """Return what to convert the colours of `frame` to, None to leave them: wide gamuts and HDR become BT.709.

    OpenCV leaves the choice to swscale, which PyAV keeps from choosing; so swscale's rule is repeated here.
    """
    if frame.color_primaries not in _KNOWN_PRIMARIES or frame.color_trc not in _KNOWN_TRANSFERS:
        return None, None
    primaries, transfer = ColorPrimaries(frame.color_primaries), ColorTrc(frame.color_trc)
    is_wide, is_hdr = primaries not in _KEPT_PRIMARIES, transfer in _HDR_TRANSFERS
    if not is_wide and not is_hdr:
        return None, None
    is_unknown = transfer == ColorTrc.UNSPECIFIED
    return (
        ColorPrimaries.BT709 if is_wide or primaries == ColorPrimaries.UNSPECIFIED else primaries,
        ColorTrc.BT709 if is_hdr or is_unknown else transfer,
    )
