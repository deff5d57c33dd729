"""Whether a long run stays as it is: the memory of each of its processes, and its speed, from the first video to the last.

    python -m benchmarks.steady_run ../shared/data/archive --videos 500

Lists the clips of SOURCE that are short and small, again and again under video_ids of their own, until there are `--videos`;
scores them with jobs/score.py; and every `--every-s` seconds notes the memory of every process of the run, and how many
videos are committed. Only the time from the first commit to the last counts, so that the start-up does not.

Prints, for the processes of each role together and for each measure, MB (10^6 bytes): the first sample, the median of the
second tenth of the samples and of the last, the slope by least squares without the first fifth, in MB for 100 videos, and the
largest sample. `rss` is what is resident, what is shared counted in each process that shares it (the crops of Ray's object
store are), `uss` what at that moment no other process has mapped, and `anonymous` heap and stack, without files and shared
memory. `uss` is not judged: it goes up when another program ends that shared the libraries.

A row `grows` if the last tenth lies above the second one by more than 2 % and by more than 5 MB, the slope is upward, and at
least a quarter of that rise lies between the middle of the run and its end; else it is `flat`, which a row is too that rose
at first and then stayed. So 500 videos do not show what grows by less than about 1.3 MB in 100 videos; a longer run does.

Then the rate, in videos a minute, in each fifth of the videos, from commit to commit, and the last over the first. The first
tenth of the videos is left out: what was extracted while the model loaded is committed all at once. In the last fifth some of
the workers wait for the others' last blocks.

Exit status 1 if a video is not scored, or if two copies of a clip have not the same faces.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.job_runs import (
    DEFAULT_SOURCE,
    clips_of,
    committed,
    faces_of,
    refuse_failure,
    score_command,
    started,
    write_manifest,
)
from benchmarks.process_memory import MEASURES, ROLES, Process, memory_of_role, processes, roles
from dfd_core.video import reader as video

GROWS_SHARE, GROWS_MB, LATE_SHARE = 0.02, 5.0, 0.25
JUDGED = ("rss", "anonymous")
WARM_UP_SHARE = 0.1
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of the run.

    Attributes:
        num_videos: Videos that are committed.
        processes: The processes of the run, the driver first.
    """

    num_videos: int
    processes: list[Process]


def small_clips(source: str, *, shorter_than_s: float, max_pixels: int) -> list[str]:
    """Return the videos of `source` that last less than `shorter_than_s` and have frames of at most `max_pixels`."""
    found = []
    for path in clips_of(source, sys.maxsize):
        with open(path, "rb") as file:
            facts = video.probe(file)
        if (facts.duration_s or 0.0) < shorter_than_s and facts.width * facts.height <= max_pixels:
            found.append(path)
    return found


def watched_run(manifest: Path, out: Path, *, every_s: float, flags: Sequence[str]) -> list[Sample]:
    """Score `manifest` into `out` and return a sample for every `every_s` seconds of it.

    Raises:
        SystemExit: The run did not end well.
    """
    samples = []
    log = out.with_suffix(".log")
    with started(score_command(manifest, out, *flags), log) as process:
        due_s = time.monotonic()
        while process.poll() is None:
            if time.monotonic() >= due_s:
                num_videos = sum(count for _, count in committed(out))
                samples.append(Sample(num_videos, processes(process.pid)))
                due_s = max(due_s + every_s, time.monotonic())
            time.sleep(_POLL_S)
    refuse_failure(process, log)
    return samples


# --- memory -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trend:
    """How a quantity went over a run, MB.

    Attributes:
        first: At the first sample.
        early: The median of the second tenth of the samples.
        middle: The median of the fifth and sixth.
        late: The median of the last tenth.
        slope: By least squares without the first fifth of the samples, MB for 100 videos.
        most: The largest sample.
    """

    first: float
    early: float
    middle: float
    late: float
    slope: float
    most: float

    @property
    def grows(self) -> bool:
        """Whether it ends higher than it began, by more than noise, and does not stay where it came soon."""
        rise = self.late - self.early
        is_risen = self.slope > 0 and rise > max(GROWS_MB, GROWS_SHARE * self.early)
        return is_risen and self.late - self.middle >= LATE_SHARE * rise


def trend(num_videos: npt.NDArray[np.float64], memory_mb: npt.NDArray[np.float64]) -> Trend:
    """Return how memory went with the number of videos that were done.

    Args:
        num_videos: (n,) videos done at each sample, n >= 10.
        memory_mb: (n,) MB at each sample.

    Example:
        >>> found = trend(np.arange(100.0), 200 + 0.5 * np.arange(100.0))
        >>> round(found.slope), found.early, found.late, found.grows
        (50, 207.25, 247.25, True)
    """
    count = len(memory_mb)
    tenth, fifth = count // 10, count // 5
    slope = np.polyfit(num_videos[fifth:], memory_mb[fifth:], 1)[0] if np.ptp(num_videos[fifth:]) else 0.0
    return Trend(
        first=float(memory_mb[0]),
        early=float(np.median(memory_mb[tenth : 2 * tenth])),
        middle=float(np.median(memory_mb[4 * tenth : 6 * tenth])),
        late=float(np.median(memory_mb[-tenth:])),
        slope=100 * float(slope),
        most=float(memory_mb.max()),
    )


def print_memory(samples: Sequence[Sample]) -> None:
    """Print the table of memory, and the roles that grow."""
    moments = [sample.processes for sample in samples]
    role_of = roles(moments)
    num_videos = np.array([sample.num_videos for sample in samples], np.float64)
    titles = ("first", "2nd tenth", "last tenth", "MB/100 videos", "largest")
    print(f"{'role':<20} {'processes':>9} {'':<9} " + " ".join(f"{title:>13}" for title in titles))
    growing = []
    for role, measure in itertools.product(ROLES, MEASURES):
        most = max(sum(role_of[process.pid] == role for process in moment) for moment in moments)
        if not most:
            continue
        memory_mb = np.array([memory_of_role(moment, role_of, role, measure) for moment in moments])
        found = trend(num_videos, memory_mb)
        verdict = ("grows" if found.grows else "flat") if measure in JUDGED else ""
        growing += [f"{role} ({measure})"] if verdict == "grows" else []
        cells = (found.first, found.early, found.late, found.slope, found.most)
        print(
            f"{role:<20} {most:>9} {measure:<9} "
            + " ".join(f"{cell:>13.1f}" for cell in cells)
            + f"  {verdict}"
        )
    print(f"\nmemory: {'grows: ' + ', '.join(growing) if growing else 'flat'}")


# --- speed --------------------------------------------------------------------------------------------------------


def rates(commits: Sequence[tuple[int, int]], parts: int = 5) -> list[float]:
    """Return the videos a minute in each of `parts` equal parts of a run without its warm-up, from commit to commit.

    Args:
        commits: When, ns, and how many videos; ascending.
        parts: How many.

    Example:
        >>> rates([(second * 10**9, 1) for second in range(51)])
        [60.0, 60.0, 60.0, 60.0, 60.0]
    """
    times_min = np.array([when for when, _ in commits], np.float64) / 60e9
    done = np.cumsum([count for _, count in commits])
    edges = np.searchsorted(done, np.linspace(WARM_UP_SHARE * done[-1], done[-1], parts + 1))
    return [
        round(float((done[last] - done[first]) / (times_min[last] - times_min[first])), 1)
        for first, last in itertools.pairwise(edges)
    ]


def print_rates(commits: Sequence[tuple[int, int]]) -> None:
    """Print the rate in each fifth, and the last over the first."""
    found = rates(commits)
    minutes = (commits[-1][0] - commits[0][0]) / 60e9
    print(f"{minutes:.1f} minutes from the first commit to the last of {len(commits)}")
    print("videos a minute, fifth by fifth: " + ", ".join(f"{rate:g}" for rate in found))
    print(f"last / first: {found[-1] / found[0]:.3f}")


# --- what must be equal -------------------------------------------------------------------------------------------


def faults_of(out: Path, clip_of: dict[str, str]) -> list[str]:
    """Return what is not as it must be: videos that are not scored, copies of a clip that have other faces."""
    statuses = Counter(pq.read_table(out / "videos").column("status").to_pylist())
    found = [] if set(statuses) <= {"scored", "no_face"} else [f"videos by status: {dict(statuses)}"]
    boxes = pd.DataFrame(list(faces_of(out)), columns=["video_id", "frame", *"ltrb"])
    of_video = {video_id: frozenset() for video_id in clip_of}
    for video_id, rows in boxes.groupby("video_id"):
        of_video[video_id] = frozenset(rows.drop(columns="video_id").itertuples(index=False, name=None))
    of_clip: dict[str, set[frozenset]] = {}
    for video_id, clip in clip_of.items():
        of_clip.setdefault(clip, set()).add(of_video[video_id])
    return found + [f"the copies of {clip} differ" for clip, sets in of_clip.items() if len(sets) > 1]


@click.command()
@click.argument("source", default=DEFAULT_SOURCE)
@click.option("--videos", default=500, show_default=True, help="How many, at least one of each clip.")
@click.option("--shorter-than", "shorter_than_s", default=20.0, show_default=True, help="Clips to take, s.")
@click.option("--max-pixels", default=500_000, show_default=True, help="Largest frame of a clip to take.")
@click.option("--every-s", default=5.0, show_default=True, help="Seconds between samples.")
@click.option("--model", default="untrained:mobilenet_v3_small", show_default=True)
def main(
    source: str, videos: int, shorter_than_s: float, max_pixels: int, every_s: float, model: str
) -> None:
    """Score the small clips of SOURCE again and again, and watch the run."""
    clips = small_clips(source, shorter_than_s=shorter_than_s, max_pixels=max_pixels)
    if not clips:
        raise click.UsageError("No clip is short and small enough: see --shorter-than and --max-pixels")
    listed = list(itertools.islice(itertools.cycle(clips), max(videos, len(clips))))
    clip_of = {f"{number:06d}": clip for number, clip in enumerate(listed)}
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as scratch:
        manifest = write_manifest(Path(scratch) / "manifest.csv", list(clip_of.items()))
        out = Path(scratch) / "scores"
        samples = watched_run(manifest, out, every_s=every_s, flags=("--model", model))
        commits, faults = committed(out), faults_of(out, clip_of)
    during = [sample for sample in samples if 0 < sample.num_videos < len(clip_of)]
    print(f"{len(clip_of)} videos of {len(clips)} clips, {len(during)} samples from the first commit on\n")
    if len(during) < 10:
        raise SystemExit("Too few samples: --videos or --every-s")
    print_memory(during)
    print_rates(commits)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
