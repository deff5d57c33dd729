import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.config import Sampling
from dfd_core.stages import plan

NONE = np.zeros(0, np.int64)

fps_values = st.one_of(st.none(), st.floats(0, 300), st.just(float("inf")), st.just(float("nan")))


@given(count=st.integers(0, 3000), fps=fps_values)
def test_stride_is_the_seeds_rule(count, fps):
    chosen = plan.sampled_frames(Sampling("stride"), np.arange(count) / 25, fps=fps, keyframes=NONE)
    known = fps is not None and np.isfinite(fps)
    assert chosen.tolist() == [i for i in range(count) if i % (int(fps if known else 0) + 1) == 0]


@given(
    steps=st.lists(st.floats(0.001, 3), min_size=1, max_size=200),
    interval=st.floats(0.05, 5),
)
def test_interval_takes_the_first_frame_at_or_after_every_tick(steps, interval):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    chosen = plan.sampled_frames(Sampling("interval", interval), times, fps=25.0, keyframes=NONE)
    expected = []
    tick = 0
    while tick * interval <= times[-1] + 1e-6:
        at_or_after = [i for i, time in enumerate(times) if time >= tick * interval - 1e-6]
        expected += at_or_after[:1]
        tick += 1
    assert chosen.tolist() == sorted(set(expected))


def test_interval_is_not_thrown_off_by_rounded_timestamps():
    times = np.round(np.arange(100) / 30, 3)  # Matroska: milliseconds
    assert plan.sampled_frames(Sampling("interval", 1.0), times, fps=30.0, keyframes=NONE).tolist() == [
        0,
        30,
        60,
        90,
    ]


@given(count=st.integers(1, 1000), parts=st.integers(1, 100))
def test_uniform_takes_the_middle_frame_of_each_part(count, parts):
    chosen = plan.sampled_frames(Sampling("uniform", parts), np.arange(count) / 25, fps=25.0, keyframes=NONE)
    assert chosen.tolist() == sorted({int((k + 0.5) * count / parts) for k in range(parts)})
    assert len(chosen) == min(parts, count) or parts > count


@pytest.mark.parametrize("sampling", ["stride", "interval:1", "uniform:4", "keyframes"])
def test_a_video_without_frames_has_no_samples(sampling):
    assert plan.sampled_frames(Sampling.parse(sampling), np.zeros(0), fps=25.0, keyframes=NONE).tolist() == []


@given(keyframes=st.lists(st.integers(0, 2999), unique=True, min_size=1), fps=fps_values)
def test_keyframes_are_the_first_and_each_next_one_that_is_far_enough_away(keyframes, fps):
    keyframes = np.array(sorted(keyframes))
    chosen = plan.sampled_frames(
        Sampling("keyframes"), np.arange(3000) / 25, fps=fps, keyframes=keyframes
    ).tolist()
    known = fps is not None and np.isfinite(fps)
    last, expected = -10_000, []
    for index in keyframes.tolist():
        if index - last >= int(fps if known else 0) + 1:
            expected.append(index)
            last = index
    assert chosen == expected


def test_a_video_without_a_keyframe_gives_its_first_frame():
    times = np.arange(100) / 25
    assert plan.sampled_frames(Sampling("keyframes"), times, fps=25.0, keyframes=NONE).tolist() == [0]


@given(duration=st.floats(601, 20_000), segment=st.floats(10, 700), stride=st.integers(1, 300))
def test_every_sampled_frame_is_in_exactly_one_segment_and_inside_it(duration, segment, stride):
    times = np.arange(0, duration, 0.04)
    indices = np.arange(0, len(times), stride)
    segments = plan.cut(duration, segment, indices=indices, pts=indices * 512, times_s=times[indices])
    assert [i for s in segments for i in s.frame_indices] == indices.tolist()
    for part in segments:
        end_s = duration if part.end_s is None else part.end_s
        assert end_s - part.start_s <= segment * (1 + 1e-9)
        assert all(part.start_s <= time_s for time_s in part.frame_times_s)
        assert part.end_s is None or all(time_s < part.end_s for time_s in part.frame_times_s)
        assert [pts // 512 for pts in part.frame_pts] == part.frame_indices


def test_segments_tile_the_video_without_gaps():
    indices = np.arange(0, 50_000, 25)
    segments = plan.cut(2000.0, 600.0, indices=indices, pts=indices, times_s=indices * 0.04)
    assert [part.start_s for part in segments] == [0.0, 500.0, 1000.0, 1500.0]
    assert [part.end_s for part in segments] == [500.0, 1000.0, 1500.0, None]
