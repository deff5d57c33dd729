"""This job against what people would write otherwise: the same clips, dlib and model, one way after the other.

    python -m benchmarks.score_vs_seed ../shared/data/archive --clips 12 --repeats 3

a  the seed report's loop: OpenCV reads every frame, dlib looks at every chosen one, one `model.predict` a face
b  the same under `multiprocessing`, a process for each core; with the libraries' own number of threads and with one
   thread a process, and the faster of the two is what the others are held against
c  a plain Ray Data pipeline, `from_items`, `flat_map`, `map_batches`, `write_parquet`, with Ray's defaults
d  this job, the whole command
e  the floor: the work of d alone, decoding, detection and batched scoring, on one thread; its CPU seconds over the cores

Every way is a program of its own (`benchmarks/way_*.py`, `jobs/score.py`) that starts from nothing. The ways take turns, and
every other repeat goes through them backwards. Ratios are medians over the repeats, of times of the same repeat.

A way is timed twice over. `whole` is the command from start to end, importing TensorFlow and loading the model included.
`work` leaves the start-up out: in a and b what passes before the first clip begins. In c and d the model loads while videos
are being decoded, so that no moment divides the two; there it is the marginal cost, the whole command on a manifest that
lists every clip four times, under as many video_ids, less the whole command on the clips once, by three. What is paid once cancels out, and
what every video costs remains: opening, planning, committing and joining too. This is what a long run pays for its videos.
The job keeps the finished graph of a model on the machine's disk, here in a folder of the benchmark's own: a run before all others
builds it, and is told apart ("the first time").

Prints one table of seconds and ratios, with the largest difference of a score from a's, what `run.json` says of d, the goals,
and what the ways of going faster that one must ask for (`--opt-in`) gain in worker seconds (`stage_seconds` in `run.json`) and
cost in faces. Those are matched in the same frame by an IoU of at least 0.5; where the sampling differs, so do the frames, and
faces are counted video by video: the median of the shares that are left, and the videos that lose all.

Exit status 1 if a way finds other boxes than a, or a score that differs from a's by more than 0.0001 (b, c: float32) or 0.03
(d, e: the precision that the job chooses, on some CPUs bfloat16). Goals that are not met are said and change no status.
"""

from __future__ import annotations

import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from benchmarks.job_runs import DEFAULT_SOURCE, Run, clips_of, differences, faces_of
from benchmarks.opt_in import Found, held_against
from benchmarks.ways import BOUNDS, NAMES, TIMES, WAYS, Bench, run_job
from dfd_core.model.source import resolve_model

OPT_INS = ("--detect-max-side 640", "--detect-max-side 480", "--sampling keyframes")


# --- the measurement ----------------------------------------------------------------------------------------------


def repeat(bench: Bench, number: int, opt_ins: Sequence[str]) -> None:
    """Do every way once, and the job with each set of flags of `opt_ins` next to the job without."""
    names = list(WAYS) if number % 2 == 0 else list(reversed(WAYS))
    videos = [(path, path) for path in bench.paths]
    for name in names:
        _tell(f"repeat {number + 1}: {NAMES[name]}")
        bench.timed.setdefault(name, []).append(WAYS[name](bench))
        for flags in opt_ins if name == "d" else ():
            _tell(f"repeat {number + 1}: d with {flags}")
            bench.opt_ins.setdefault(flags, []).append(run_job(bench, videos, *shlex.split(flags)))
    expected = bench.timed["a"][-1].faces
    for name in names:
        if name == "a":
            continue
        worst, faults = differences(expected, bench.timed[name][-1].faces, BOUNDS[name[0]])
        bench.worst[name] = max(worst, bench.worst.get(name, 0.0))
        bench.faults += [f"{NAMES[name]}: {fault}" for fault in faults]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Times:
    """One kind of seconds of every way that has it, one entry a repeat."""

    seconds: dict[str, list[float]]

    @classmethod
    def of(cls, bench: Bench, kind: str) -> Times:
        """Return the seconds `work_s` or `whole_s`."""
        seconds = {name: [getattr(once, kind) for once in times] for name, times in bench.timed.items()}
        return cls({name: values for name, values in seconds.items() if None not in values})

    @property
    def faster_pool(self) -> str:
        """The way of the two b that takes less."""
        return min(("b, threads", "b, thread"), key=self.median)

    def median(self, name: str) -> float:
        """Return a way's seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, left: str, right: str) -> float:
        """Return how many times `left` takes what `right` takes."""
        pairs = zip(self.seconds[left], self.seconds[right], strict=True)
        return statistics.median(one / other for one, other in pairs)


# --- what is printed ----------------------------------------------------------------------------------------------


def print_ways(bench: Bench, footage_s: float) -> None:
    """Print the table of seconds and ratios."""
    whole, work = Times.of(bench, "whole_s"), Times.of(bench, "work_s")
    titles = ("wall s", "a / way", "b / way")
    print(f"{'':<38} {'whole':^29}   {'work, without start-up':^49}")
    print(_line("way", titles, (*titles, "way / e", "footage/s"), "scores from a's"))
    for name, title in NAMES.items():
        first = _cells(whole, name) if name in whole.seconds else [""] * 3
        last = [*_cells(work, name), f"{work.ratio(name, 'e'):.2f}", f"{footage_s / work.median(name):.2f}"]
        print(_line(title, first, last, f"{bench.worst.get(name, 0.0):.1e}"))


def _line(title: str, first: Sequence[str], last: Sequence[str], difference: str) -> str:
    cells = (" ".join(f"{cell:>9}" for cell in part) for part in (first, last))
    return f"{title:<38} " + "   ".join(cells) + f"   {difference:>15}"


def _cells(times: Times, name: str) -> list[str]:
    ratios = (times.ratio("a", name), times.ratio(times.faster_pool, name))
    return [f"{times.median(name):.1f}", *(f"{ratio:.2f}" for ratio in ratios)]


def print_record(bench: Bench) -> None:
    """Print what `run.json` says of the job's last run over the clips, once and several times, and the seconds of the floor."""
    once, often = bench.timed["d"][-1].runs
    print("\nrun.json of d, the last repeat")
    names = ("footage_s", "wall_s", "footage_s_per_wall_s", "extract_busy_share", "score_busy_share")
    print(f"{'':<12} " + " ".join(f"{name:>20}" for name in (*names, "worker seconds")))
    for title, run in (("clips once", once), (f"{TIMES} times", often)):
        values = [*(run.throughput.get(name, "") for name in names), round(run.worker_s, 1)]
        print(f"{title:<12} " + " ".join(f"{value:>20}" for value in values))
    print(f"worker seconds of d, once: {_by_stage(once.record['stage_seconds'])}")
    print(f"CPU seconds of e: {_by_stage(bench.timed['e'][-1].cpu_s)}")


def _by_stage(seconds: dict[str, float]) -> str:
    return ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())


def print_start(bench: Bench, first_time: Run) -> None:
    """Print the seconds from the command to each step of the start, with the graph to be built and with a kept one."""
    once = bench.timed["d"][-1].runs[0]
    print("\nseconds from the command to   " + " ".join(f"{name:>14}" for name in once.throughput["start_s"]))
    for title, run in (("the first time (one clip)", first_time), ("the last repeat", once)):
        print(f"{title:<29} " + " ".join(f"{at:>14.1f}" for at in run.throughput["start_s"].values()))


def print_goals(bench: Bench) -> None:
    """Print the goals, and the same ratios with start-up."""
    whole, work = Times.of(bench, "whole_s"), Times.of(bench, "work_s")
    goals = (
        ("a / d, without start-up", work.ratio("a", "d"), ">=", 4.0),
        ("b / d, without start-up", work.ratio(work.faster_pool, "d"), ">=", 1.5),
        ("d / e, without start-up", work.ratio("d", "e"), "<=", 1.15),
    )
    print(f"\n{'goal':<26} {'wanted':>8} {'found':>7}")
    for title, found, sign, wanted in goals:
        is_met = found >= wanted if sign == ">=" else found <= wanted
        verdict = "too little work to tell" if found <= 0 else "met" if is_met else "NOT met"
        print(f"{title:<26} {f'{sign} {wanted:g}':>8} {found:>7.2f}  {verdict}")
    print(f"{'a / d, with start-up':<26} {'':>8} {whole.ratio('a', 'd'):>7.2f}")
    print(f"{'b / d, with start-up':<26} {'':>8} {whole.ratio(whole.faster_pool, 'd'):>7.2f}")


def print_opt_ins(bench: Bench) -> None:
    """Print what each set of flags gains and costs."""
    if not bench.opt_ins:
        return
    exact = [once.runs[0] for once in bench.timed["d"]]
    print(
        "\nasked for             worker s   speed   faces (exact)   gained    lost   faces/video   videos emptied"
    )
    print(f"{'(exact)':<20} {statistics.median(run.worker_s for run in exact):>9.1f} {1.0:>7.2f}")
    for flags, runs in bench.opt_ins.items():
        speed = statistics.median(
            one.worker_s / other.worker_s for one, other in zip(exact, runs, strict=True)
        )
        found = held_against(
            faces_of(exact[-1].out), faces_of(runs[-1].out), same_frames="--sampling" not in flags
        )
        worker_s = statistics.median(run.worker_s for run in runs)
        print(f"{flags.removeprefix('--'):<20} {worker_s:>9.1f} {speed:>7.2f}   {_row_of(found)}")


def _row_of(found: Found) -> str:
    faces = f"{found.num_faces} ({found.num_exact})"
    matched = [_share(count, found.num_exact) for count in (found.gained, found.lost)]
    emptied = f"{found.videos_emptied} of {found.num_videos}"
    return f"{faces:>13} {matched[0]:>8} {matched[1]:>7} {found.faces_per_video:>13.2f} {emptied:>16}"


def _share(count: int | None, total: int) -> str:
    return "" if count is None else f"{100 * count / max(1, total):.1f} %"


@click.command()
@click.argument("source", default=DEFAULT_SOURCE)
@click.option("--clips", default=12, show_default=True, help="At most so many clips, evenly taken.")
@click.option("--repeats", default=3, show_default=True)
@click.option(
    "--model",
    default="untrained:inception_resnet_v2",
    show_default=True,
    help="As jobs/score.py takes it; untrained ones have the same random weights in every process.",
)
@click.option(
    "--opt-in", "opt_ins", multiple=True, default=OPT_INS, show_default=True, metavar="FLAGS",
    help="Flags of jobs/score.py that trade faces for speed; may be given again. '' for none.",
)  # fmt: skip
def main(source: str, clips: int, repeats: int, model: str, opt_ins: tuple[str, ...]) -> None:
    """Compare the ways on the clips of SOURCE."""
    if resolve_model(model).card.margin:
        raise click.UsageError("The seed's loop knows no margin: choose a model without one")
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as scratch:
        bench = Bench(model, clips_of(source, clips), Path(scratch))
        for path in bench.paths:
            Path(path).read_bytes()  # into memory, so that the first way does not wait for the disk alone
        os.environ["DFD_CACHE"] = str(bench.path("graphs"))
        _tell("d, the first time")
        first_time = run_job(bench, [(path, path) for path in bench.paths[:1]])
        for number in range(repeats):
            repeat(bench, number, [flags for flags in opt_ins if flags])
        footage_s = bench.timed["d"][-1].runs[0].throughput["footage_s"]
        print(f"{len(bench.paths)} clips, {footage_s:.0f} s of footage, {os.cpu_count()} cores, ", end="")
        print(f"{repeats} repeats, {model}")
        print(f"{len(bench.timed['a'][-1].faces)} faces\n")
        print_ways(bench, footage_s)
        print_record(bench)
        print_start(bench, first_time)
        print_goals(bench)
        print_opt_ins(bench)
    for fault in bench.faults:
        print(fault)
    sys.exit(1 if bench.faults else 0)


if __name__ == "__main__":
    main()
