"""Open an untrusted container: which demuxers may run, and which stream is the video."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from dfd_core.errors import (
    NotAVideoError,
    NoVideoStreamError,
    UnsupportedCodecError,
    VideoError,
    VideoTooLargeError,
    VideoUnreadableError,
)
from dfd_core.step_clock import StepClock
from dfd_core.video.opened import FAULTS, OpenedVideo, out_of_memory
from dfd_core.video.sniff import VideoFile, is_audio, is_iso_media, is_picture_brand, other_kind

_DEMUXERS = (
    "mov,matroska,avi,flv,live_flv,kux,mpegts,mpeg,mpegvideo,asf,ogg,ivf,nut,mxf,gxf,rm,wtv,dv,nsv,nuv,av1,obu,h261,"
    "h263,h264,hevc,vvc,m4v,vc1,vc1test,dirac,cavsvideo,avs2,avs3,yuv4mpegpipe"
)
"""Every other one is refused: playlists, picture sequences, subtitles, scripts, devices."""
DECODERS = (
    "h264,hevc,vvc,libdav1d,av1,vp8,vp9,mpeg4,mpeg1video,mpeg2video,mpegvideo,h261,h263,h263i,h263p,flv,vp3,vp5,vp6,vp6a,vp6f,theora,"
    "msmpeg4v1,msmpeg4v2,msmpeg4,wmv1,wmv2,wmv3,vc1,rv10,rv20,rv30,rv40,cavs,dirac,snow,svq1,svq3,cinepak,indeo3,indeo4,indeo5,"
    "mjpeg,mjpegb,jpeg2000,png,qtrle,rpza,smc,dvvideo,dnxhd,prores,cfhd,ffv1,ffvhuff,huffyuv,utvideo,lagarith,magicyuv,"
    "rawvideo,v210,v308,v408,v410,r210,r10k,yuv4,y41p,msvideo1,msrle,zmbv,tscc,camtasia,g2m,mss1,mss2,speedhq,hap"
)
"""What cameras, editors, screens and archives use. Every other decoder is refused, as are all of sound and subtitles."""
_AVFMT_FLAG_GENPTS = 1
_BUFFER_BYTES = 1 << 19


@contextmanager
def opened_video(
    file: BinaryIO, max_pixels: int | None, clock: StepClock | None = None
) -> Generator[OpenedVideo]:
    """Open `file` as a video and choose its stream.

    Raises:
        VideoError: As `reader.probe` says.
    """
    source = VideoFile(file)
    limits = {"codec_whitelist": DECODERS} | ({} if max_pixels is None else {"max_pixels": str(max_pixels)})
    with _container(source, limits) as container:
        container.flags &= ~_AVFMT_FLAG_GENPTS
        stream = _chosen_stream(container)
        context = stream.codec_context
        width, height = context.width, context.height
        if max_pixels is not None and width * height > max_pixels:
            raise VideoTooLargeError(f"A frame has {width} x {height} pixels, the limit is {max_pixels}")
        context.thread_count = 1
        context.options = limits
        yield OpenedVideo(
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


def _container(source: VideoFile, limits: dict[str, str]) -> InputContainer:
    try:
        container = av.open(
            source,
            "r",
            options=limits,
            container_options={
                "format_whitelist": _DEMUXERS,
                "protocol_whitelist": "none",
                "codec_whitelist": DECODERS,
            },
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse_to_open,
        )
    except MemoryError as error:
        source.check()
        raise out_of_memory() from error
    except FAULTS as error:
        source.check()
        raise _not_opened(source.head()) from error
    source.check()
    return container


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise ValueError("A video may not open other files")


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
    if stream.codec_context.codec.name not in DECODERS.split(","):
        raise UnsupportedCodecError(
            f"The decoder {stream.codec_context.codec.name} is not one of those that may run"
        )
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
