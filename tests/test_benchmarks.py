"""What the benchmarks reckon with, on small cases. That they run at all is seen by running them."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import job_runs, kill_halfway, opt_in, process_memory, remux, steady_run
from dfd_core.video import reader as video
from tests.clips import astronaut_frames, write_clip

OPTIONS = {"bf": "3", "g": "20"}


def rgb_frames(path):
    with open(path, "rb") as file:
        positions = video.index_frames(file)
        return [
            frame.rgb for frame in video.decode_frames(file, positions.positions(range(len(positions.pts))))
        ]


@pytest.mark.parametrize("module", [job_runs, opt_in, process_memory, remux, steady_run])
def test_the_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert results.failed == 0


def test_joined_clips_have_the_frames_of_the_clips(tmp_path):
    paths = [
        write_clip(tmp_path / f"{count}.mp4", astronaut_frames(count, period=count), fps=10, options=OPTIONS)
        for count in (80, 60)
    ]
    clips = remux.joinable([str(path) for path in paths], at_most_s=10.0)
    assert [clip.num_frames % 11 for clip in clips] == [0, 0]
    remux.write([*clips, clips[0]], tmp_path / "long.mp4")
    parts = []
    for number, clip in enumerate(clips):
        remux.write([clip], tmp_path / f"short{number}.mp4")
        parts.append(rgb_frames(tmp_path / f"short{number}.mp4"))
        assert len(parts[-1]) == clip.num_frames
        whole = rgb_frames(clip.path)
        assert all(map(np.array_equal, parts[-1], whole[: clip.num_frames]))
    expected = [*parts[0], *parts[1], *parts[0]]
    found = rgb_frames(tmp_path / "long.mp4")
    assert len(found) == len(expected)
    assert all(map(np.array_equal, found, expected))


def test_only_clips_of_one_decoder_are_joined(tmp_path):
    small, large = (
        write_clip(tmp_path / f"{width}.mp4", astronaut_frames(60, width=width), options=OPTIONS)
        for width in (320, 352)
    )
    vp9 = write_clip(tmp_path / "other.webm", astronaut_frames(30), codec="libvpx-vp9")
    clips = remux.joinable([str(small), str(vp9), str(large)], at_most_s=10.0)
    assert len(clips) == 1
    assert remux.joinable([str(small)], at_most_s=0.5) == []


def test_every_opening_of_a_file_is_counted_and_no_reading(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    with kill_halfway.openings_of(path) as openings:
        for _ in range(3):
            with open(path, "rb", buffering=0) as file:
                file.read(10)
                file.read(10)
        assert openings.count() == 3
        assert openings.count() == 0


def test_faces_are_matched_one_to_one_and_videos_that_lose_all_are_counted():
    exact = [("a", 0, 0, 0, 100, 100), ("a", 0, 10, 0, 110, 100), ("b", 3, 0, 0, 100, 100)]
    other = [("a", 0, 12, 0, 112, 100), ("a", 0, 500, 0, 600, 100)]
    found = opt_in.held_against(exact, other, same_frames=True)
    assert (found.gained, found.lost) == (1, 2)
    assert (found.videos_emptied, found.num_videos) == (1, 2)
    assert opt_in.held_against(exact, other, same_frames=False).lost is None


@pytest.mark.parametrize(
    ("memory_mb", "grows"),
    [
        (300 + 0.05 * np.arange(500), True),
        (300 + 0.005 * np.arange(500), False),
        (300 + np.minimum(0.2 * np.arange(500), 30), False),
        (300 - 0.05 * np.arange(500), False),
        (2000 + 0.05 * np.arange(500), False),
    ],
    ids=["a leak", "too little to tell", "a rise that ends", "a fall", "little for its size"],
)
def test_memory_grows_if_it_rises_to_the_end(memory_mb, grows):
    noise = np.random.default_rng(1).normal(0, 0.5, 500)
    assert steady_run.trend(np.arange(500.0), memory_mb + noise).grows is grows


def test_composed_scenes_count_switches_and_breaks():
    from benchmarks.composed_scenes import Seen, mistakes

    looks = [bytes([value] * 64) for value in (0, 200)]

    def seen(second, person, shot=0, x=0.0):
        return Seen(second, shot, (x, 0.0, x + 100, 100.0), looks[person], person)

    taking_turns = [seen(second, second // 3) for second in range(6)]
    found = mistakes(taking_turns, with_appearance=True)
    assert (found.faces, found.switches, found.breaks) == (6, 0, 0)
    found = mistakes(taking_turns, with_appearance=False)
    assert (found.switches, found.breaks) == (1, 0)
    far_apart = [seen(0, 0), seen(1, 0, x=5000.0), seen(2, 0, shot=1)]
    assert mistakes([replace(face, appearance=looks[face.second % 2]) for face in far_apart], with_appearance=True).breaks == 1  # fmt: skip
