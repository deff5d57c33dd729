"""One long file against the same footage in short ones: what the length of a file costs, and what a kill loses of it.

    python -m benchmarks.long_video ../shared/data/archive --hours 2
    python -m benchmarks.long_video ../shared/data/archive --hours 2 --kill

Makes the files from the clips of SOURCE without encoding anything: of the clips whose H.264 stream has the same parameters,
the set with the most footage is taken, each clip cut at `--short-s` seconds, and repeated until the hours are full. The long
file holds these cuts one after the other; the short files are these same cuts, one file each, listed as often as they occur
in the long one under a video_id of their own. Each cut is a whole number of sampling strides long, so both ways look at the
same frames, and must find the same faces.

Scores both with jobs/score.py, in turn. Prints for each the wall-clock seconds of the whole command, the footage and the
frames looked at, seconds of footage a second, `extract_busy_share` of `run.json`, the seconds that were spent before the
segments began (planning, Ray), and the ratio long / short; once with start-up and once without. The start-up is what the same
command takes for one short file; that file's footage is left out as well. The goal is a ratio under 1.2.

`--kill` then scores the long file once more, sends SIGKILL to all processes of the run when half of its segments are
committed, and gives the same command again. Work that was lost is segments begun but not committed: the openings of the
file are counted (inotify), and a worker opens it once for a segment. Prints them beside the number of workers, and the
seconds that it took in all. Its tables must equal those of the run that was left alone, to the last bit.

Exit status 1 if the faces of long and short differ, a score by more than 0.01 (another batch), or the tables of the killed
run from those of the undisturbed one.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from benchmarks import remux
from benchmarks.drill_kill import Drill, compare, doubled
from benchmarks.job_runs import (
    DEFAULT_SOURCE,
    Faces,
    Run,
    clips_of,
    differences,
    faces_of,
    score,
    score_command,
    write_manifest,
)
from benchmarks.kill_halfway import kill_halfway, print_killed

MOST_DIFFERENT = 0.01
GOAL = 1.2
_LONG = "long"


@dataclass(frozen=True, slots=True)
class Footage:
    """The same footage twice: one long file, and short ones.

    Attributes:
        long: A manifest of the long file.
        long_file: The long file.
        short: A manifest of the short files, in the order in which the long one holds them.
        one: A manifest of one short file, to know the start-up.
        first_frames: For each video_id of `short`, where it begins in the long file, frames.
    """

    long: Path
    long_file: Path
    short: Path
    one: Path
    first_frames: dict[str, int]


def make_footage(paths: Sequence[str], folder: Path, *, hours: float, short_s: float) -> Footage:
    """Write the files and the manifests into `folder`.

    Raises:
        SystemExit: No clip can be cut and joined.
    """
    clips = remux.joinable(paths, at_most_s=short_s)
    if not clips:
        raise SystemExit(f"No clip is H.264 of a constant rate and can be cut at {short_s:g} s or before")
    sequence = _repeated(clips, 3600 * hours)
    print(f"{len(clips)} clips can be joined; {len(sequence)} cuts of them make the footage")
    files = {clip.path: folder / f"short_{number:04d}.mp4" for number, clip in enumerate(clips)}
    for clip in clips:
        remux.write([clip], files[clip.path])
    long_file = folder / "long.mp4"
    remux.write(sequence, long_file)
    ids = [f"{number:06d}" for number in range(len(sequence))]
    firsts = itertools.accumulate((clip.num_frames for clip in sequence), initial=0)
    videos = [(video_id, str(files[clip.path])) for video_id, clip in zip(ids, sequence, strict=True)]
    return Footage(
        long=write_manifest(folder / "long.csv", [(_LONG, str(long_file))]),
        long_file=long_file,
        short=write_manifest(folder / "short.csv", videos),
        one=write_manifest(folder / "one.csv", videos[:1]),
        first_frames=dict(zip(ids, firsts, strict=False)),
    )


def _repeated(clips: Sequence[remux.Clip], least_s: float) -> list[remux.Clip]:
    """Return the clips in turn, again and again, until they last `least_s` seconds."""
    found: list[remux.Clip] = []
    duration_s = 0.0
    for clip in itertools.cycle(clips):
        if duration_s >= least_s:
            break
        found.append(clip)
        duration_s += clip.duration_s
    return found


def joined(short: Faces, first_frames: dict[str, int]) -> Faces:
    """Return the faces of the short files as they are in the long one."""
    return {
        (_LONG, frame_index + first_frames[video_id], *box): p_fake
        for (video_id, frame_index, *box), p_fake in short.items()
    }


# --- the comparison -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Measured:
    """What the runs took.

    Attributes:
        runs: `long`, `short` and `one`, one entry a repeat.
        faults: What is not equal that should be.
    """

    runs: dict[str, list[Run]] = field(default_factory=lambda: {"long": [], "short": [], "one": []})
    faults: list[str] = field(default_factory=list)

    def median_s(self, name: str) -> float:
        """Return the wall-clock seconds of a way."""
        return statistics.median(run.wall_s for run in self.runs[name])

    def counts(self, name: str) -> dict[str, Any]:
        """Return what `run.json` counts in a way's last run."""
        return self.runs[name][-1].record["counts"]

    def ratio(self, *, start_up: bool) -> float:
        """Return long over short, with or without what one short file takes; the median over the repeats."""
        return statistics.median(
            (long.wall_s - one.wall_s * (not start_up)) / (short.wall_s - one.wall_s * (not start_up))
            for long, short, one in zip(*self.runs.values(), strict=True)
        )


def measure(footage: Footage, scratch: Path, *, repeats: int, flags: Sequence[str]) -> Measured:
    """Score the long file and the short ones in turn."""
    measured = Measured()
    ways = {"long": footage.long, "short": footage.short, "one": footage.one}
    for number in range(repeats):
        for name in list(ways) if number % 2 == 0 else list(reversed(ways)):
            measured.runs[name].append(score(ways[name], scratch / f"{name}{number}", *flags))
        long, short = (faces_of(measured.runs[name][-1].out) for name in ("long", "short"))
        measured.faults += differences(long, joined(short, footage.first_frames), MOST_DIFFERENT)[1]
    return measured


def print_measured(measured: Measured) -> None:
    """Print the table and the ratios."""
    titles = ("wall s", "footage s", "frames", "faces", "footage/s", "busy share", "before s", "segments")
    print("\n" + _line("", titles))
    one_s, one_footage_s = measured.median_s("one"), measured.counts("one")["footage_s"]
    for name, title in (("long", "one long file"), ("short", "short files"), ("one", "one short file")):
        run, counts, wall_s = measured.runs[name][-1], measured.counts(name), measured.median_s(name)
        before_s = run.record["attempts"][-1]["wall_s"] - run.throughput["wall_s"]
        cells = [f"{wall_s:.1f}", f"{counts['footage_s']:.1f}", counts["frames"], counts["faces"]]
        cells += [f"{counts['footage_s'] / wall_s:.2f}", run.throughput["extract_busy_share"]]
        print(_line(title, [*cells, f"{before_s:.1f}", run.throughput["segments"]]))
        if name != "one":
            rest_s, footage_s = wall_s - one_s, counts["footage_s"] - one_footage_s
            rest = (f"{rest_s:.1f}", f"{footage_s:.1f}", "", "", f"{footage_s / rest_s:.2f}")
            print(_line("  without start-up", rest))
    print(f"\n{'long / short':<26} {'goal':>10} {'found':>10}")
    for title, start_up in (("with start-up", True), ("without start-up", False)):
        ratio = measured.ratio(start_up=start_up)
        verdict = "too little work to tell" if ratio <= 0 else "met" if ratio < GOAL else "NOT met"
        print(f"{title:<26} {f'< {GOAL:g}':>10} {ratio:>10.2f}  {verdict}")


def _line(title: str, cells: Sequence[Any]) -> str:
    return f"{title:<20} " + " ".join(f"{cell:>10}" for cell in cells)


def measure_kill(measured: Measured, footage: Footage, out: Path, flags: Sequence[str]) -> None:
    """Kill a run of the long file halfway, say what that cost, and compare with the last undisturbed one."""
    undisturbed = measured.runs["long"][-1]
    command = score_command(footage.long, out, *flags)
    num_segments = undisturbed.throughput["segments"]
    print_killed(kill_halfway(command, out, footage.long_file, num_segments=num_segments), undisturbed)
    drill = Drill()
    compare(undisturbed.out, out, drill)
    measured.faults += drill.faults
    print(f"segments committed twice: {doubled(out)}; rows that differ: {'; '.join(drill.faults) or 'none'}")


@click.command()
@click.argument("source", default=DEFAULT_SOURCE)
@click.option("--hours", default=2.0, show_default=True, help="Of footage, at least.")
@click.option("--short-s", default=10.0, show_default=True, help="Longest short file, s.")
@click.option("--segment-s", default=600.0, show_default=True, help="Longest piece that one worker takes, s.")
@click.option("--repeats", default=1, show_default=True)
@click.option("--model", default="untrained:mobilenet_v3_small", show_default=True)
@click.option("--kill", "is_killed", is_flag=True, help="Kill a run of the long file halfway as well.")
def main(
    source: str, hours: float, short_s: float, segment_s: float, repeats: int, model: str, is_killed: bool
) -> None:
    """Score one long file made of the clips of SOURCE, and the same footage as short files."""
    flags = ("--model", model, "--segment-s", str(segment_s))
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as folder:
        scratch = Path(folder)
        footage = make_footage(clips_of(source, sys.maxsize), scratch, hours=hours, short_s=short_s)
        measured = measure(footage, scratch, repeats=repeats, flags=flags)
        print_measured(measured)
        if is_killed:
            measure_kill(measured, footage, scratch / "killed", flags)
        for fault in measured.faults:
            print(fault)
    sys.exit(1 if measured.faults else 0)


if __name__ == "__main__":
    main()
