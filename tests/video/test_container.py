"""Foreign and hostile files, held to the tree of errors."""

import io
import random
import socket
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dfd_core.errors import (
    NotAVideoError,
    NoVideoStreamError,
    UnsupportedCodecError,
    VideoDamagedError,
    VideoEmptyError,
    VideoTooLargeError,
    VideoUnreadableError,
)
from dfd_core.video import container
from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.clips import CLOSED, HEIGHT, WIDTH, encode, picture
from tests.video.reference import indexed, probed


@pytest.mark.parametrize("name", ["cover_first.mp4", "cover_last.mp4"])
def test_a_cover_picture_is_not_the_video(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        kinds = [("mjpeg", "yuvj420p", (32, 32)), ("libx264", "yuv420p", (WIDTH, HEIGHT))]
        streams = []
        for codec, pixel_format, size in kinds if name == "cover_first.mp4" else reversed(kinds):
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = pixel_format
            if codec == "mjpeg":
                stream.disposition = av.stream.Disposition.attached_pic.value
            streams.append((stream, size, 1 if codec == "mjpeg" else 20))
        for i in range(20):
            for stream, size, count in streams:
                if i < count:
                    frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
                    frame = frame.reformat(format=stream.pix_fmt)
                    frame.pts, frame.time_base = i, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream, *_ in streams:
            container.mux(stream.encode(None))
    facts = probed(path)
    assert (facts.codec, facts.width, facts.height) == ("h264", WIDTH, HEIGHT)
    assert indexed(path.read_bytes()).num_frames == 20


JPEG = bytes(cv2.imencode(".jpg", picture(0))[1])


PNG = bytes(cv2.imencode(".png", picture(0))[1])


TS_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:%d/a.ts\n#EXT-X-ENDLIST\n"


DASH = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
    b'<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    b"<BaseURL>http://127.0.0.1:%d/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", VideoEmptyError, "zero bytes"),
        (b"This is not a video.\n" * 40, NotAVideoError, "text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", NotAVideoError, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", NotAVideoError, "Git LFS"),
        (JPEG, NotAVideoError, "JPEG"),
        (PNG, NotAVideoError, "PNG"),
        (b"GIF89a" + bytes(100), NotAVideoError, "GIF"),
        (b"PK\x03\x04" + bytes(100), NotAVideoError, "ZIP"),
        (bytes(5000), NotAVideoError, "no known video format"),
        (random.Random(0).randbytes(5000), NotAVideoError, "no known video format"),
        (b"RIFF\x00\x10\x00\x00WAVEfmt " + bytes(4000), NoVideoStreamError, "sound"),
        (b"ID3\x04" + bytes(4000), NoVideoStreamError, "sound"),
    ],
)
def test_a_file_that_is_no_video_is_named_for_what_it_is(content, error, words):
    for use in (video.probe, video.index_frames):
        with pytest.raises(error, match=words):
            use(io.BytesIO(content))
    with pytest.raises(error):
        list(video.decode_frames(io.BytesIO(content), [FramePosition(0, 0, 0.0)]))


def test_a_video_of_sound_only_has_no_video_stream(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoVideoStreamError):
        probed(path)


def test_a_missing_index_is_said_to_be_missing(clip):
    content = clip("closed.mp4").read_bytes()
    with pytest.raises(VideoUnreadableError, match="moov"):
        indexed(content[: content.index(b"moov") - 4])
    with pytest.raises(VideoUnreadableError):
        indexed(clip("open.mkv").read_bytes()[:60])


def test_an_unknown_codec_is_unsupported(clip):
    content = clip("closed.mp4").read_bytes().replace(b"avc1\x00", b"zzzz\x00").replace(b"avcC", b"zzzC")
    with pytest.raises(UnsupportedCodecError):
        indexed(content)


def test_a_heif_picture_is_no_video(clip):
    content = clip("one_frame.mp4").read_bytes()
    with pytest.raises(NotAVideoError):
        indexed(content[:8] + b"heic" + content[12:])


def test_a_frame_above_the_limit_is_refused_before_it_is_decoded(clip):
    with clip("closed.mp4").open("rb") as file:
        assert video.probe(file, max_pixels=WIDTH * HEIGHT).width == WIDTH
        with pytest.raises(VideoTooLargeError, match=f"{WIDTH} x {HEIGHT}"):
            video.probe(file, max_pixels=WIDTH * HEIGHT - 1)


def test_a_size_that_grows_past_the_limit_is_not_decoded(tmp_path):
    small = encode(tmp_path / "a.ts", "libx264", num_frames=10, options=CLOSED, size=(64, 48))
    big = encode(
        tmp_path / "b.ts", "libx264", num_frames=10, options=CLOSED, size=(640, 480), pts=range(10, 20)
    )
    file = io.BytesIO(small.read_bytes() + big.read_bytes())
    positions = [FramePosition(i, None, i / 25) for i in range(20)]
    with pytest.raises(VideoDamagedError, match="10 of 20"):
        list(video.decode_frames(file, positions, max_pixels=64 * 48))


@pytest.mark.parametrize("text", [TS_PLAYLIST, DASH], ids=["playlist", "dash"])
def test_a_playlist_under_the_name_of_a_video_calls_nobody(tmp_path, text):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "playlist.mp4"
        path.write_bytes(text % server.getsockname()[1])
        with path.open("rb") as file, pytest.raises(NotAVideoError):
            video.probe(file)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "[Script Info]\nTitle: x\n[Events]\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
    ],
    ids=["concat", "subtitles", "session"],
)
def test_a_list_of_other_files_is_refused_and_they_are_not_opened(tmp_path, text):
    encode(tmp_path / "secret.mp4", "libx264", num_frames=5, options=CLOSED)
    path = tmp_path / "list.mp4"
    path.write_text(text)
    if "concat" in text:
        with av.open(str(path)) as container:  # what FFmpeg left to itself does
            assert len(list(container.decode(video=0))) == 5
    with path.open("rb") as file, pytest.raises(NotAVideoError):
        video.index_frames(file)


def test_a_decoder_that_is_not_on_the_list_does_not_run(tmp_path):
    path = encode(tmp_path / "a.avi", "zlib", pixel_format="bgr24", num_frames=3)
    for use in (video.probe, video.index_frames):
        with path.open("rb") as file, pytest.raises(UnsupportedCodecError, match="zlib"):
            use(file)


def test_every_decoder_on_the_list_exists_and_is_one_of_video():
    for name in container.DECODERS.split(","):
        assert av.codec.Codec(name, "r").type == "video"


def test_the_sound_of_a_video_is_not_decoded(tmp_path):
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as muxer:
        picture_stream, sound = muxer.add_stream("mpeg4", rate=25), muxer.add_stream("aac", rate=44100)
        picture_stream.width, picture_stream.height = WIDTH, HEIGHT
        for i in range(10):
            muxer.mux(picture_stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.rate = 44100
        for stream, last in ((sound, frame), (sound, None), (picture_stream, None)):
            muxer.mux(stream.encode(last))
    with path.open("rb") as file:
        assert video.index_frames(file).num_frames == 10
    assert not any("aac" in name or "mp3" in name for name in container.DECODERS.split(","))
    with path.open("rb") as file, container.opened_video(file, None) as opened:
        sounds = opened.container.streams.audio
        assert len(sounds) == 1
        assert not sounds[0].codec_context.is_open
