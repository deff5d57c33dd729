"""The face detectors side by side: what a frame costs, what they find, and what the model makes of their crops.

    python -m benchmarks.bench_detectors ../shared/data/unseen ../shared/data/validation --model default --sheet /tmp/extra.png
    python -m benchmarks.bench_detectors --fit ../shared/data/archive

Every clip is decoded once, at its default sampling, and each frame goes to both detectors in turn, on one thread. A face of
dlib counts as found where a box of `fast` overlaps it by 0.3 (intersection over union). What only one of the two found is
not judged here: `--sheet` draws all of these boxes, for a person to look at.

With `--model` the crops of both are scored. Labels are those of the datasets' layouts. `--fit` prints the framing of
`dfd_core.faces.fast`, fitted anew: each clip counts the same, absolute errors are minimised.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.config import Sampling
from dfd_core.evaluation.intervals import Bootstrap, measure
from dfd_core.evaluation.scored import Scored
from dfd_core.faces.centerface import CenterFace
from dfd_core.faces.detect import Face, crop
from dfd_core.faces.detectors import load_detector
from dfd_core.faces.fast import MAX_SIDE_PX, THRESHOLD
from dfd_core.sources.layouts.read import read_tree
from dfd_core.sources.layouts.scan import scan
from dfd_core.stages import plan
from dfd_core.video import reader as video

NAMES = ("dlib", "fast")
LARGE_PX = 1900
MIN_OVERLAP = 0.3


@dataclass(slots=True)
class Clip:
    """What both detectors found in one clip.

    Attributes:
        seconds: CPU seconds of each frame, by detector, and the frame's longer side.
        faces: The boxes of each frame, by detector.
        scores: `p_fake` of each frame with a face, by detector.
    """

    path: str
    is_fake: bool
    seconds: list[dict[str, float]] = field(default_factory=list)
    faces: list[dict[str, list[Face]]] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})


def frames_of(path: str, most: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the first `most` frames of the default sampling."""
    with open(path, "rb") as file:
        fps = video.probe(file).fps
        file.seek(0)
        index = video.index_frames(file)
        chosen = plan.sampled_frames(Sampling(), index.times_s, fps=fps, keyframes=index.keyframes)[:most]
        yield from (frame.rgb for frame in video.decode_frames(file, index.positions(chosen.tolist())))


def labelled_clips(roots: tuple[str, ...]) -> Iterator[Clip]:
    """Yield the videos of the datasets below `roots`."""
    for root in roots:
        for found in read_tree(scan(root)).videos:
            yield Clip(f"{root.rstrip('/')}/{found.path}", found.label == "fake")


def look(clip: Clip, detectors: dict[str, Any], predict: Any, most: int) -> None:
    """Fill `clip`."""
    for rgb in frames_of(clip.path, most):
        seconds: dict[str, float] = {"side_px": max(rgb.shape[:2])}
        faces = {}
        for name, detect in detectors.items():
            began_s = time.process_time()
            faces[name] = detect(rgb)
            seconds[name] = time.process_time() - began_s
            if predict is not None and faces[name]:
                card = predict.card
                crops = [crop(rgb, face, margin=card.margin, crop_px=card.input_size) for face in faces[name]]
                clip.scores[name].append(float(predict(np.stack(crops)).max()))
        clip.seconds.append(seconds)
        clip.faces.append(faces)


def overlap(one: Face, other: Face) -> float:
    """Return the intersection of two boxes over their union.

    >>> overlap(Face(0, 0, 10, 10, 1.0), Face(5, 0, 15, 10, 1.0))
    0.3333333333333333
    """
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    areas = [(face.right - face.left) * (face.bottom - face.top) for face in (one, other)]
    return both / (sum(areas) - both)


def paired(faces: dict[str, list[Face]]) -> tuple[list[tuple[Face, Face]], list[Face], list[Face]]:
    """Return the faces that both found, those of dlib alone, and those of fast alone."""
    pairs, rest, alone = [], list(faces["fast"]), []
    for face in faces["dlib"]:
        best = max(rest, key=lambda other: overlap(face, other), default=None)
        if best is not None and overlap(face, best) >= MIN_OVERLAP:
            pairs.append((face, best))
            rest.remove(best)
        else:
            alone.append(face)
    return pairs, alone, rest


def print_cost(clips: list[Clip]) -> None:
    """Print CPU milliseconds a frame, by the size of the frame."""
    seconds = [frame for clip in clips for frame in clip.seconds]
    print(f"\n{'frames':<24} {'number':>7} {'dlib ms':>8} {'fast ms':>8} {'dlib / fast':>12}")
    for title, least, most in (("below 1900 pixels", 0, LARGE_PX), ("1080p and larger", LARGE_PX, 1 << 30)):
        of_size = [frame for frame in seconds if least <= frame["side_px"] < most]
        if of_size:
            dlib_s, fast_s = (float(np.mean([frame[name] for frame in of_size])) for name in NAMES)
            print(
                f"{title:<24} {len(of_size):>7} {1e3 * dlib_s:>8.1f} {1e3 * fast_s:>8.1f} {dlib_s / fast_s:>12.1f}"
            )


def print_found(clips: list[Clip]) -> None:
    """Print what each detector found, and how alike the boxes are."""
    parts = [paired(faces) for clip in clips for faces in clip.faces]
    pairs = [pair for both, _, _ in parts for pair in both]
    only = {"dlib": sum(len(part[1]) for part in parts), "fast": sum(len(part[2]) for part in parts)}
    print(
        f"\nfaces of dlib {len(pairs) + only['dlib']}, of fast {len(pairs) + only['fast']}; found by both {len(pairs)}"
    )
    print(f"by dlib alone {only['dlib']}, by fast alone {only['fast']}: look at them with --sheet")
    if pairs:
        alike = [overlap(*pair) for pair in pairs]
        print(
            f"overlap of the boxes: median {np.median(alike):.2f}, 5th percentile {np.percentile(alike, 5):.2f}"
        )


def print_scores(clips: list[Clip]) -> None:
    """Print the AUC through both detectors, and how alike the scores of the videos are."""
    print()
    for name in NAMES:
        with_face = [clip for clip in clips if clip.scores[name]]
        scores = [float(np.mean(clip.scores[name])) for clip in with_face]
        scored = Scored.of([clip.is_fake for clip in with_face], scores)
        auc = measure(scored, threshold=0.5, bootstrap=Bootstrap()).figures["roc_auc"]
        print(f"AUC through {name}: {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}], {len(with_face)} videos")
    both = [clip for clip in clips if clip.scores["dlib"] and clip.scores["fast"]]
    means = np.array([[np.mean(clip.scores[name]) for name in NAMES] for clip in both])
    print(f"correlation of the videos' scores: {np.corrcoef(means.T)[0, 1]:.3f}, {len(both)} videos")


def draw_sheet(clips: list[Clip], path: str, most: int, *, side_px: int = 110, across: int = 12) -> None:
    """Write a picture of every box that one detector found alone: red of dlib, green of fast."""
    tiles = []
    for clip in clips:
        for rgb, faces in zip(frames_of(clip.path, most), clip.faces, strict=True):
            _, of_dlib, of_fast = paired(faces)
            for face, colour in [
                *((face, (255, 0, 0)) for face in of_dlib),
                *((face, (0, 255, 0)) for face in of_fast),
            ]:
                seen = rgb.copy()
                cv2.rectangle(seen, (face.left, face.top), (face.right, face.bottom), colour, 2)
                tiles.append(crop(seen, face, margin=0.5, crop_px=side_px))
    tiles += [np.zeros((side_px, side_px, 3), np.uint8)] * (-len(tiles) % across)
    rows = [np.concatenate(tiles[start : start + across], 1) for start in range(0, len(tiles), across)]
    if rows:
        cv2.imwrite(path, np.concatenate(rows)[..., ::-1])


def fitted(pairs: list[tuple[Face, npt.NDArray[np.float32], str]]) -> tuple[float, float, float]:
    """Return dlib's side in widths and in heights of CenterFace's box, and the shift down of its centre in heights.

    Args:
        pairs: A face of dlib, CenterFace's box of it, and the clip. Each clip counts the same.
    """
    found = np.array([[face.left, face.top, face.right, face.bottom] for face, _, _ in pairs], float)
    boxes = np.array([box[:4] for _, box, _ in pairs], float)
    counts = Counter(path for _, _, path in pairs)
    weights = np.array([1 / counts[path] for _, _, path in pairs])
    sides = (found[:, 2:] - found[:, :2]).mean(axis=1)
    given = (boxes[:, 2:] - boxes[:, :2]) / sides[:, None]
    current = weights
    for _ in range(30):  # least absolute errors, as least squares with other weights each time
        roots = np.sqrt(current)
        solution = np.linalg.lstsq(given * roots[:, None], roots, rcond=None)[0]
        current = weights / np.maximum(np.abs(given @ solution - 1), 0.02)
    down = (found[:, 1] + found[:, 3] - boxes[:, 1] - boxes[:, 3]) / 2 / (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(down)
    half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(solution[0]), float(solution[1]), float(down[order][half])


def print_fit(root: str, most: int) -> None:
    """Print the framing of `dfd_core.faces.fast`, fitted to the clips below `root`."""
    detect, network = load_detector("dlib"), CenterFace(max_side_px=MAX_SIDE_PX, threshold=THRESHOLD)
    pairs = []
    for clip in labelled_clips((root,)):
        for rgb in frames_of(clip.path, most):
            boxes = network.boxes(rgb)
            as_faces = [
                Face(*map(round, box[:4].tolist()), float(number)) for number, box in enumerate(boxes)
            ]
            both, _, _ = paired({"dlib": detect(rgb), "fast": as_faces})
            pairs += [(face, boxes[int(other.confidence)], clip.path) for face, other in both]
    width, height, down = fitted(pairs)
    print(f"{len(pairs)} faces of {len({path for _, _, path in pairs})} clips")
    print(f"dlib's side = {width:.3f} widths + {height:.3f} heights; its centre is {down:.3f} heights lower")


@click.command()
@click.argument("roots", nargs=-1)
@click.option("--frames", default=8, show_default=True, help="At most so many frames a clip.")
@click.option("--model", help="Score the crops with this model.")
@click.option("--sheet", help="Where to draw the boxes that one detector found alone.")
@click.option("--fit", "fit_root", help="Fit the framing on this dataset instead.")
def main(
    roots: tuple[str, ...], frames: int, model: str | None, sheet: str | None, fit_root: str | None
) -> None:
    """Hold the detectors against each other on the clips below ROOTS."""
    cv2.setNumThreads(1)
    if fit_root:
        print_fit(fit_root, frames)
        return
    predict = None
    if model:
        from dfd_core.model.predictor import load_predictor
        from dfd_core.model.source import resolve_model

        predict = load_predictor(resolve_model(model), precision="float32", num_threads=1)
    detectors = {name: load_detector(name) for name in NAMES}
    clips = list(labelled_clips(roots))
    for clip in clips:
        look(clip, detectors, predict, frames)
    print(f"{len(clips)} clips, {sum(len(clip.faces) for clip in clips)} frames, one thread")
    print_cost(clips)
    print_found(clips)
    if predict is not None:
        print_scores(clips)
    if sheet:
        draw_sheet(clips, sheet, frames)


if __name__ == "__main__":
    main()
