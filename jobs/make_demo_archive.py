"""Make a small archive to try the other jobs on: six clips of one portrait, half of them altered.

The portrait is `skimage.data.astronaut()`, a NASA photograph in the public domain. Three clips only move, scale, light
and compress it; the other three also carry a face region that was visibly blended or pasted in, and are labelled `fake`.
They show what the jobs do, not what a detector can do: they are stills in motion, altered crudely. `group` joins a real
clip with the fake that was made from it (same frame size, same camera path); all six show the same person, so no split of
them keeps persons apart.

The arithmetic stands here and not in `dfd_core`, because it belongs to no stage, and because there only `dfd_core.video`,
which reads and never writes, may import av.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import click
import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
FPS = 25
FACE_XY = (222, 112)
"""Centre of the face in the portrait, pixels; the detector's box around it is about 90 pixels wide."""
FACE_AXES = (46, 62)
"""Half the width and half the height of the face, pixels."""


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
        alteration: What was done to the face; empty for a real clip.
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
    alteration: str = ""


CLIPS = (
    Clip("hall", "hall", 1, 640, 480, 4.0, (1.4, 1.8), (1.0, 1.0, 1.0), 20),
    Clip("hall_swapped", "hall", 1, 640, 480, 4.0, (1.7, 1.45), (0.92, 0.94, 1.02), 26, "mirrored"),
    Clip("door", "door", 2, 480, 640, 5.0, (2.1, 1.8), (1.06, 0.97, 0.86), 30),
    Clip("door_swapped", "door", 2, 480, 640, 5.0, (1.85, 2.2), (1.12, 1.1, 1.06), 23, "smoothed"),
    Clip("desk", "desk", 3, 640, 360, 3.0, (1.3, 1.3), (0.78, 0.8, 0.86), 34),
    Clip("desk_swapped", "desk", 3, 640, 360, 3.0, (1.35, 1.55), (0.9, 0.88, 0.82), 18, "pasted"),
)


def portrait() -> Frame:
    """Return the portrait: uint8 (512, 512, 3), RGB."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), np.uint8)


def altered(image: Frame, alteration: str, rng: np.random.Generator) -> Frame:
    """Return `image` with another face region over its face, a little different at each call.

    Args:
        image: uint8 (512, 512, 3), RGB: the portrait, whatever its light.
        alteration: `mirrored` or `smoothed`, blended in with a soft edge, or `pasted`, with a hard one.
        rng: Source of the flicker.
    """
    region = np.s_[FACE_XY[1] - 100 : FACE_XY[1] + 100, FACE_XY[0] - 100 : FACE_XY[0] + 100]
    own = image[region]
    x, y = 100 + rng.normal(0, 0.8, 2)
    mask = np.zeros(own.shape[:2], np.float32)
    cv2.ellipse(mask, ((x, y), (2.0 * FACE_AXES[0], 2.0 * FACE_AXES[1]), 0.0), 1.0, -1)
    if alteration != "pasted":
        mask = cv2.GaussianBlur(mask, (0, 0), 5)
    if alteration == "smoothed":
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
        source = altered(image, clip.alteration, rng) if clip.alteration else image
        yield cv2.warpAffine(source, matrix, frame_px, borderMode=cv2.BORDER_REFLECT_101)


def write_clip(clip: Clip, path: Path) -> None:
    """Encode `clip` to `path` as H.264; the same bytes each time, so on one thread."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(clip.crf), "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in render(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@click.command(epilog="Example: python jobs/make_demo_archive.py --out demo/archive")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
def main(out: Path) -> None:
    """Make six short clips of a face, three of them altered, and a manifest with their labels."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in CLIPS:
        uri = f"{clip.name}.mp4"
        write_clip(clip, out / uri)
        label = "fake" if clip.alteration else "real"
        rows.append((uri, clip.name, label, clip.group, clip.alteration or "none"))
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("uri", "video_id", "label", "group", "alteration"), *rows])
    click.echo(f"{len(rows)} clips and manifest.csv are in {out}")


if __name__ == "__main__":
    main()
