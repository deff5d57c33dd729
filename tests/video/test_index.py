from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.video.index import FrameIndex, PacketFacts, keyframes_of, pts_in_order


def shown(pts, *, is_keyframe=False, num_frames=1):
    return PacketFacts(pts=pts, duration=1, is_keyframe=is_keyframe, num_frames=num_frames)


@given(st.lists(st.integers(1, 10_000), unique=True, min_size=1), st.integers(-100, 0))
def test_presentation_order_is_that_of_the_timestamps(pts, first):
    packets = [shown(first, is_keyframe=True), *map(shown, pts)]
    assert pts_in_order(packets) == [first, *sorted(pts)]
    hidden = [shown(max(pts) + 1, num_frames=0), shown(None, num_frames=0)]
    assert pts_in_order([*packets, *hidden]) == [first, *sorted(pts)]


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [shown(0)],
        [shown(None, is_keyframe=True)],
        [shown(0, is_keyframe=True), shown(None)],
        [shown(0, is_keyframe=True), shown(0)],
        [shown(5, is_keyframe=True), shown(4)],
        [shown(0, is_keyframe=True), shown(1, num_frames=-1)],
    ],
    ids=["none", "no_keyframe", "no_first_time", "no_time", "doubled", "leading", "unknown_codec"],
)
def test_packets_that_do_not_tell_are_not_trusted(packets):
    assert pts_in_order(packets) is None


def test_keyframes_are_the_shown_frames_of_the_packets_that_start_decoding():
    packets = [
        PacketFacts(pts, 1, is_keyframe=True, num_frames=num_frames, starts_decoding=starts)
        for pts, num_frames, starts in [
            (0, 1, True),
            (10, 0, True),
            (10, 1, False),
            (30, 1, True),
            (20, 1, False),
        ]
    ]
    assert keyframes_of(packets, [0, 10, 20, 30]).tolist() == [0, 3]


@given(st.lists(st.integers(0, 1 << 40), min_size=1, unique=True), st.integers(1, 100_000))
def test_times_never_fall_and_begin_at_zero(pts, rate):
    index = FrameIndex(np.array(sorted(pts), np.int64), Fraction(1, rate), True, 0.0)
    assert index.times_s[0] == 0.0
    assert (np.diff(index.times_s) >= 0).all()
    positions = index.positions(range(len(pts)))
    assert [position.pts for position in positions] == sorted(pts)
    with pytest.raises(ValueError, match="Received"):
        index.positions([len(pts)])
