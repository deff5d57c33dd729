import io

import numpy as np
import pytest

from dfd_core.video.reader import probe
from tests.video.clips import HEIGHT, NUM_FRAMES, UNEVEN_MS, WIDTH
from tests.video.reference import indexed, probed


def test_times_are_those_of_the_container(clip):
    index = indexed(clip("variable_rate.mkv").read_bytes())
    assert index.times_s == pytest.approx((np.array(UNEVEN_MS) - UNEVEN_MS[0]) / 1000)
    assert indexed(clip("late_start.mkv").read_bytes()).times_s[0] == 0.0
    assert indexed(clip("closed.mp4").read_bytes()).duration_s == pytest.approx(NUM_FRAMES / 25)
    assert indexed(clip("open.h264").read_bytes()).duration_s == pytest.approx(NUM_FRAMES / 25)
    assert indexed(clip("edit_list.mp4").read_bytes()).num_frames == NUM_FRAMES - 23


@pytest.mark.parametrize(
    ("name", "rotation_deg", "size"),
    [
        ("turned_90.mp4", 270, (HEIGHT, WIDTH)),
        ("turned_270.mp4", 90, (HEIGHT, WIDTH)),
        ("turned_180.mkv", 180, (WIDTH, HEIGHT)),
        ("turned_45.mp4", 0, (WIDTH, HEIGHT)),
        ("closed.mp4", 0, (WIDTH, HEIGHT)),
    ],
)
def test_the_size_is_stated_as_displayed(clip, name, rotation_deg, size):
    facts = probed(clip(name))
    assert (facts.rotation_deg, (facts.width, facts.height)) == (rotation_deg, size)


def test_facts_come_from_the_header(clip):
    facts = probed(clip("closed.mp4"))
    assert facts.container.startswith("mov,mp4")
    assert (facts.codec, facts.pixel_format) == ("h264", "yuv420p")
    assert (facts.fps, facts.duration_s, facts.num_frames_from_header) == (25.0, 2.4, NUM_FRAMES)
    assert probed(clip("closed.mp4")) == facts
    assert probed(clip("open.mkv")).duration_s == pytest.approx(2.4, abs=0.1)
    assert probed(clip("open.mkv")).num_frames_from_header is None


@pytest.mark.parametrize("units", [-1, 2**31 - 1, -(2**31)])
def test_a_duration_that_no_video_has_is_unknown(clip, units):
    content = bytearray(clip("closed.mp4").read_bytes())
    for box, at in ((b"mdhd", 16), (b"mvhd", 16), (b"tkhd", 20)):
        start = content.index(box) + 4
        content[start + at : start + at + 4] = (units & 0xFFFFFFFF).to_bytes(4, "big")
    mdhd = content.index(b"mdhd") + 4
    content[mdhd + 12 : mdhd + 16] = (1).to_bytes(4, "big")
    facts = probe(io.BytesIO(content))
    assert facts.duration_s is None or 0 < facts.duration_s <= 366 * 86400
