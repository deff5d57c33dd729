"""Make a small archive to try the other jobs on: clips of one portrait, half of them altered.

The portrait is `skimage.data.astronaut()`, a NASA photograph in the public domain. Half of the clips only move, scale,
light and compress it; the other half also carry a face region that was visibly blended or pasted in, and are labelled
`fake`. They show what the jobs do, not what a detector can do: they are stills in motion, altered crudely. `group` joins
a real clip with the fake that was made from it (same frame size, same camera path). The groups are parted into clips to
train on and clips held out; all show the same person, so that split does not keep persons apart.

The arithmetic stands here and not in `dfd_core`, because it belongs to no stage, and because there only `dfd_core.video.reader`,
which reads and never writes, may import av.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import av
import click
import cv2
import numpy as np
import numpy.typing as npt

from dfd.commands.shape import command, print_result

Frame = npt.NDArray[np.uint8]
FPS = 25
FACE_XY = (222, 112)
"""Centre of the face in the portrait, pixels; the detector's box around it is about 90 pixels wide."""
FACE_AXES = (46, 62)
"""Half the width and half the height of the face, pixels."""


METHODS = ("mirrored", "smoothed", "pasted")
"""What is done to the face of a fake."""
FRAME_SIZES = ((640, 480), (480, 640), (640, 360), (480, 480))


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the archive.

    Attributes:
        name: File name without its ending.
        group: The real clip and the fake made from it.
        seed: Of the camera path, so the same within a group.
        width: Of a frame, pixels.
        height: Of a frame, pixels.
        duration_s: Seconds.
        zoom: Frame pixels for each pixel of the portrait, at the first and at the last frame.
        light: Gains of red, green and blue.
        crf: x264's quality: 18 is near lossless to the eye, 38 is poor.
        method: What was done to the face, one of METHODS; empty for a real clip.
    """

    name: str
    group: str
    seed: int
    width: int
    height: int
    duration_s: float
    zoom: tuple[float, float]
    light: tuple[float, float, float]
    crf: int
    method: str = ""


def clips_of(number: int) -> tuple[Clip, Clip]:
    """Return the real and the fake clip of group `number`, always the same.

    Light, quality and zoom of both are drawn alike, so that none of them gives a fake away.
    """
    rng = np.random.default_rng(number)
    width, height = FRAME_SIZES[number % len(FRAME_SIZES)]
    group, duration_s = f"scene{number:02d}", 2.0 + number % 3 * 0.4

    def clip(suffix: str, method: str) -> Clip:
        zoom = rng.uniform(1.35, 2.1, 2)
        light = rng.uniform(0.75, 1.1) * rng.uniform(0.93, 1.07, 3)
        crf = int(rng.integers(18, 33))
        looks = (tuple(map(float, zoom)), tuple(map(float, light)), crf, method)
        return Clip(group + suffix, group, number, width, height, duration_s, *looks)

    return clip("", ""), clip("_altered", METHODS[number % len(METHODS)])


def portrait() -> Frame:
    """Return the portrait: uint8 (512, 512, 3), RGB."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), np.uint8)


def altered(image: Frame, method: str, rng: np.random.Generator) -> Frame:
    """Return `image` with another face region over its face, a little different at each call.

    Args:
        image: uint8 (512, 512, 3), RGB: the portrait, whatever its light.
        method: `mirrored` or `smoothed`, blended in with a soft edge, or `pasted`, with a hard one.
        rng: Source of the flicker.
    """
    region = np.s_[FACE_XY[1] - 100 : FACE_XY[1] + 100, FACE_XY[0] - 100 : FACE_XY[0] + 100]
    own = image[region]
    x, y = 100 + rng.normal(0, 0.8, 2)
    mask = np.zeros(own.shape[:2], np.float32)
    cv2.ellipse(mask, ((x, y), (2.0 * FACE_AXES[0], 2.0 * FACE_AXES[1]), 0.0), 1.0, -1)
    if method != "pasted":
        mask = cv2.GaussianBlur(mask, (0, 0), 5)
    if method == "smoothed":
        other = cv2.GaussianBlur(own, (0, 0), 2.2) * np.array([1.08, 0.88, 1.0])
    else:
        mirror = np.array([[-1.08, 0.0, 2.08 * x], [0.0, 1.08, -0.08 * y]])
        other = cv2.warpAffine(own, mirror, own.shape[1::-1]) * np.array([0.85, 0.93, 0.85])
    weight = mask[:, :, None] * rng.uniform(0.85, 1.0)
    result = image.copy()
    result[region] = np.clip(own + weight * (other * rng.uniform(0.95, 1.05) - own), 0, 255)
    return result


def render(clip: Clip) -> Iterator[Frame]:
    """Yield the frames of `clip`, uint8 (height, width, 3), RGB: a camera sways and zooms over the lit portrait."""
    image = np.clip(portrait() * np.array(clip.light), 0, 255).astype(np.uint8)
    rng = np.random.default_rng(clip.seed)
    turns, phase = rng.uniform((0.6, 0.0), (1.4, 1.0))
    frame_px = np.array([clip.width, clip.height])
    num_frames = round(clip.duration_s * FPS)
    for part in np.arange(num_frames) / num_frames:
        angle = 2 * np.pi * (turns * part + phase)
        zoom = clip.zoom[0] + (clip.zoom[1] - clip.zoom[0]) * part
        half_view = frame_px / zoom / 2
        view = FACE_XY + half_view * (0.3 * np.cos(angle), 0.2 + 0.15 * np.sin(2 * angle))
        view = np.clip(view, half_view, np.array(image.shape[1::-1]) - half_view)
        matrix = cv2.getRotationMatrix2D(view, 2 * np.sin(angle), zoom)
        matrix[:, 2] += frame_px / 2 - view
        source = altered(image, clip.method, rng) if clip.method else image
        yield cv2.warpAffine(source, matrix, frame_px, borderMode=cv2.BORDER_REFLECT_101)


def write_clip(clip: Clip, path: Path) -> None:
    """Encode `clip` to `path` as H.264; the same bytes each time, so on one thread."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"crf": str(clip.crf), "preset": "superfast"}
        )
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in render(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_part(clips: Sequence[Clip], folder: Path) -> None:
    """Write `clips` and their manifest into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    paths = [folder / f"{clip.name}.mp4" for clip in clips]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        list(processes.map(write_clip, clips, paths))
    for clip, path in zip(clips, paths, strict=True):
        rows.append((path.name, clip.name, "fake" if clip.method else "real", clip.group, clip.method))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("uri", "video_id", "label", "group", "method"), *rows])


@command("dfd NAME --out demo/archive")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
@click.option("--train", default=12, show_default=True, help="Groups of two clips to train on.")
@click.option("--held-out", default=6, show_default=True, help="Groups of two clips to score.")
def main(out: Path, train: int, held_out: int) -> None:
    """Make short clips of a face, half of them altered: train/ and held_out/, each with its manifest.csv."""
    written: dict[str, int] = {}
    for name, numbers in (("train", range(train)), ("held_out", range(train, train + held_out))):
        clips = [clip for number in numbers for clip in clips_of(number)]
        if clips:
            write_part(clips, out / name)
            written[str(out / name)] = len(clips)
    lines = [f"{number} clips and manifest.csv are in {folder}" for folder, number in written.items()]
    print_result({"clips": written}, lambda: click.echo("\n".join(lines)))
