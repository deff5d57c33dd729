"""What the log says of a run while it goes on."""

from __future__ import annotations

from dfd.archive.tally import Tally

SECONDS = {"decode": 2.0, "infer": 1.0}


def test_a_video_is_done_with_its_last_segment() -> None:
    tally = Tally({"film": 2})
    tally.add(["film-0", "clip-0"], ["film", "clip"], [3, 1], [None, None], SECONDS)
    assert (tally.read()["segments"], tally.read()["videos"], tally.read()["faces"]) == (2, 1, 4)
    tally.add(["film-1"], ["film"], [2], [None], SECONDS)
    assert (tally.read()["segments"], tally.read()["videos"], tally.read()["faces"]) == (3, 2, 6)


def test_a_task_that_runs_again_counts_once() -> None:
    tally = Tally({"film": 2})
    for _ in range(3):
        tally.add(["film-0", "clip-0"], ["film", "clip"], [3, 1], ["damaged", None], SECONDS)
    found = tally.read()
    assert (found["segments"], found["videos"], found["faces"], found["faulty_videos"]) == (2, 1, 4, 1)
    assert found["extract_s"] == 6.0  # the work was done three times


def test_errors_are_counted_in_videos_not_in_segments() -> None:
    tally = Tally({"film": 3})
    segments = ["film-0", "film-1", "film-2"]
    tally.add(segments, ["film"] * 3, [0, 0, 0], ["damaged", "truncated", None], SECONDS)
    assert tally.read()["faulty_videos"] == 1
