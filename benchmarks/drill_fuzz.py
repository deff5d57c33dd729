"""Damage videos in every way a disk or an attacker would, and see that each one ends as a row.

    python benchmarks/drill_fuzz.py FOLDER --mutants 2000 --seed 1

Every mutant goes through the plan and the extraction, in the sandbox, as in a scoring run. Prints one table; exit status
1 if a mutant ended as anything but a row, as kind `unexpected`, or beyond its time.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from dfd_core.config import ExtractConfig, Limits
from dfd_core.schemas import SEGMENT, VIDEO_PLAN, face_crops, to_table
from dfd_core.sources.videos import read_videos
from dfd_core.stages.plan import segment_id
from dfd_core.stages.sandbox import Sandbox
from dfd_core.storage.uri import local_path

LIMITS = Limits(max_pixels=4096 * 4096, timeout_factor=5.0, timeout_floor_s=30.0, memory_mb=2000)
CONFIG = ExtractConfig(limits=LIMITS)
MUTATIONS = ("header", "payload", "index", "cut", "hole", "repeat", "swap")


def mutate(content: bytes, kind: str, chance: random.Random) -> bytes:
    """Return a damaged copy of a video: bytes changed in its head, middle or tail, or parts cut, zeroed, moved."""
    damaged = bytearray(content)
    size = len(damaged)
    if kind in ("header", "payload", "index"):
        first, last = {
            "header": (0, min(size, 2000)),
            "payload": (0, size),
            "index": (max(0, size - 4000), size),
        }[kind]
        for _ in range(chance.choice([1, 3, 20, 200])):
            damaged[chance.randrange(first, last)] = chance.randrange(256)
        return bytes(damaged)
    start = chance.randrange(size)
    length = min(size - start, int(2 ** chance.uniform(0, 16)))
    if kind == "cut":
        return bytes(damaged[: max(1, start)])
    if kind == "hole":
        damaged[start : start + length] = bytes(length)
    elif kind == "repeat":
        damaged[start:start] = damaged[start : start + length]
    else:
        other = chance.randrange(size)
        damaged[start : start + length], damaged[other : other + length] = (
            damaged[other : other + length],
            damaged[start : start + length],
        )
    return bytes(damaged)


def outcomes(path: Path, sandbox: Sandbox) -> Iterator[str]:
    """Yield how the plan of the video at `path`, and each of its segments, ended: a kind of error, or `decoded`."""
    planned = sandbox.plan({"plan_key": "k", "uri": str(path)})
    to_table([planned], VIDEO_PLAN)
    if planned["error_kind"] and not planned["segments"]:
        yield planned["error_kind"]
    for position, part in enumerate(planned["segments"]):
        row = {"segment_id": segment_id("k", position), "plan_key": "k", "uri": str(path)}
        row |= {"fps": planned["fps"], "duration_s": planned["duration_s"], **part}
        to_table([row], SEGMENT)
        result = sandbox.extract(row)
        to_table([result], face_crops(CONFIG.crop_px))
        yield result["error_kind"] or "decoded"


def fuzz(
    files: list[Path], *, num_mutants: int, seed: int
) -> tuple[Counter[tuple[str, str]], list[str], float]:
    """Return the outcomes by mutation, what broke a promise, and the longest time of a mutant, seconds."""
    chance = random.Random(seed)
    found: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    longest_s = 0.0
    sandbox = Sandbox(CONFIG)
    with tempfile.TemporaryDirectory(prefix="dfd-fuzz-") as scratch:
        try:
            for number in range(num_mutants):
                file, kind = chance.choice(files), chance.choice(MUTATIONS)
                path = Path(scratch) / f"mutant{file.suffix}"
                path.write_bytes(mutate(file.read_bytes(), kind, chance))
                began_s = time.monotonic()
                ends = list(outcomes(path, sandbox))
                longest_s = max(longest_s, time.monotonic() - began_s)
                found.update((kind, end) for end in ends)
                if not ends or "unexpected" in ends:
                    faults.append(f"mutant {number} of seed {seed} ({kind} of {file.name}): {ends}")
        finally:
            sandbox.close()
    return found, faults, longest_s


@click.command()
@click.argument("folder")
@click.option("--mutants", default=2000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--largest-mb", default=3.0, show_default=True, help="Larger files are left out, MB.")
def main(folder: str, mutants: int, seed: int, largest_mb: float) -> None:
    """Fuzz with the videos below FOLDER."""
    uris = read_videos(folder).table.column("uri").to_pylist()
    files = [path for path in map(Path, map(local_path, uris)) if 0 < path.stat().st_size < largest_mb * 1e6]
    found, faults, longest_s = fuzz(files, num_mutants=mutants, seed=seed)
    print(f"{'mutation':<10} {'outcome':<18} {'rows':>6}")
    for (kind, end), count in sorted(found.items()):
        print(f"{kind:<10} {end:<18} {count:>6}")
    print(
        f"\n{mutants} mutants of {len(files)} videos, {len(faults)} faults, the longest took {longest_s:.1f} s"
    )
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
