import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.video.bits import num_frames_shown, starts_decoding

CODECS = [*"h264 hevc av1 vp8 vp9 mpeg2video mpeg4 ffv1 flv1 h263 msmpeg4v1 msmpeg4v3 wmv2 theora".split()]


@given(st.sampled_from(CODECS), st.binary(min_size=1, max_size=100), st.sampled_from([0, 1, 2, 4]))
def test_no_packet_makes_its_reader_fail(codec, payload, length_size):
    assert starts_decoding(codec, memoryview(payload), length_size) in (True, False)
    assert num_frames_shown(codec, memoryview(payload)) in (-1, 0, 1)


START = b"\x00\x00\x01"


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("h264", START + b"\x65\x88", True),
        ("h264", START + b"\x41\x9a", False),
        ("h264", START + b"\x06\x06\x01\xc4\x80" + START + b"\x41\x9a", True),  # recovers at once, exactly
        ("h264", START + b"\x06\x06\x01\x44\x80" + START + b"\x41\x9a", False),  # one frame later
        ("h264", START + b"\x06\x06\x01\x84\x80" + START + b"\x41\x9a", False),  # not exactly
        ("hevc", START + b"\x2a\x01", True),
        ("hevc", START + b"\x02\x01", False),
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x10", True),
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x00", False),  # a key frame that is not shown
        ("av1", b"\x12\x00\x32\x01\x10", False),  # no sequence header
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x30", False),
        ("vp8", b"\x10\x00", True),
        ("vp8", b"\x11\x00", False),
        ("vp9", b"\x82\x00", True),
        ("vp9", b"\x86\x00", False),
        ("vp9", b"\x88\x00", False),
        ("mpeg2video", START + b"\x00\x00\x08\x00", True),
        ("mpeg2video", START + b"\x00\x00\x10\x00", False),
        ("mpeg4", START + b"\xb6\x10", True),
        ("mpeg4", START + b"\xb6\x50", False),
        ("h263", b"\x00\x00\x80\x02\x08\x00", True),  # QCIF
        ("h263", b"\x00\x00\x80\x02\x0a\x00", False),
        ("h263", b"\x00\x00\x80\x02\x1c\x80\x00\x00\x00", True),  # PLUSPTYPE, with its optional part
        ("h263", b"\x00\x00\x80\x02\x1c\x80\x00\x04\x00", False),
        ("h263", b"\x00\x00\x80\x02\x1c\x10\x00", False),
        ("flv1", b"\x00\x00\x84\x01\x00\x00", True),
        ("flv1", b"\x00\x00\x84\x01\x20\x00", False),
        ("flv1", b"\x00\x00\x84\x00\x40\x30\x20\x00", False),  # with a size of its own, in bytes
        ("flv1", b"\x00\x00\x84\x00\x40\x30\x00\x00", True),
        ("msmpeg4v1", b"\x00\x00\x01\x00\x02\x00", False),
        ("msmpeg4v1", b"\x00\x00\x01\x00\x08\x00", True),
        ("msmpeg4v3", b"\x40", False),
        ("wmv1", b"\x3f", True),
        ("wmv2", b"\x40", True),
        ("wmv2", b"\x80", False),
        ("ffv1", b"\x7f\x80", True),
        ("ffv1", b"\x7f\x7f", False),
        ("prores", b"\x00", True),
    ],
)
def test_only_a_picture_that_needs_no_other_starts_decoding(codec, payload, expected):
    assert starts_decoding(codec, memoryview(payload), 0) is expected
    if codec == "h264":
        lengths = b"".join(len(unit).to_bytes(4, "big") + unit for unit in payload.split(START)[1:])
        assert starts_decoding(codec, memoryview(lengths), 4) is expected


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("vp8", b"\x11\x00", 1),
        ("vp8", b"\x01\x00", 0),
        ("vp9", b"\x86\x00", 1),
        ("vp9", b"\x84\x00", 0),
        ("vp9", b"\x88\x00", 1),  # shows a frame decoded before
        ("vp9", b"\x84\x00\xc0\x02\xc0", 1),  # a superframe shows its last
        ("mpeg4", START + b"\xb6" + bytes(20), 1),
        ("mpeg4", START + b"\xb6" + bytes(20) + START + b"\xb6" + bytes(20), -1),  # two pictures in a packet
        ("mpeg4", START + b"\xb6\x10\x00", -1),  # too short for a picture: not coded
        ("h264", b"\x00", 1),
        ("theora", b"\x00", -1),
    ],
)
def test_packets_that_show_no_frame_are_known(codec, payload, expected):
    assert num_frames_shown(codec, memoryview(payload)) == expected
