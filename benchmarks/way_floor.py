"""Way e of `score_vs_seed.py`: what the work alone costs, in one process and on one thread, with nothing around it.

    python -m benchmarks.way_floor CLIPS.json OUT.json --model untrained:inception_resnet_v2

The project's own functions: `probe`, `index_frames` and `decode_frames` of every clip; detection and cropping; then the
project's predictor, loaded and run once before, over all crops in batches of 64. OUT.json holds `faces` as `way_seed.py`
writes them, and the CPU seconds of the process (`time.process_time`) for `decode_s`, `detect_s` and `score_s`.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.config import Sampling
from dfd_core.errors import VideoError
from dfd_core.faces.detect import FrontalFaceDetector, crop
from dfd_core.model.predictor import load_predictor
from dfd_core.model.source import resolve_model
from dfd_core.stages import plan
from dfd_core.video import reader as video

_BATCH_SIZE = 64


class Lap:
    """Adds the CPU seconds of this process since the last call to a named account."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last_s = time.process_time()

    def add(self, name: str) -> None:
        """Close the lap and add it to the account `name`."""
        now_s = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now_s - self._last_s
        self._last_s = now_s


def cut_faces(
    path: str, detect: FrontalFaceDetector, lap: Lap, *, crop_px: int
) -> tuple[list[list[Any]], list[npt.NDArray[np.uint8]]]:
    """Return the boxes of a clip's faces, as [path, frame_index, left, top, right, bottom], and their crops.

    A clip that is damaged counts as far as it can be read.
    """
    boxes, crops = [], []
    with suppress(VideoError), open(path, "rb", buffering=0) as file:
        facts = video.probe(file)
        index = video.index_frames(file)
        chosen = plan.sampled_frames(Sampling(), index.times_s, fps=facts.fps, keyframes=index.keyframes)
        for frame in video.decode_frames(file, index.positions(chosen.tolist())):
            lap.add("decode_s")
            for face in detect(frame.rgb):
                boxes.append([path, frame.index, face.left, face.top, face.right, face.bottom])
                crops.append(crop(frame.rgb, face, margin=0.0, crop_px=crop_px))
            lap.add("detect_s")
    lap.add("decode_s")
    return boxes, crops


@click.command()
@click.argument("clips", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", required=True)
def main(clips: Path, out: Path, model: str) -> None:
    """Do the bare work of the CLIPS on one thread, and write its CPU seconds into OUT."""
    cv2.setNumThreads(1)
    source = resolve_model(model, raw=True)
    size = source.card.input_size
    predict = load_predictor(source, batch_size=_BATCH_SIZE, num_threads=1)
    predict(np.zeros((_BATCH_SIZE, size, size, 3), np.uint8))
    detect = FrontalFaceDetector()
    boxes, crops = [], []
    lap = Lap()
    for path in json.loads(clips.read_text()):
        found = cut_faces(path, detect, lap, crop_px=size)
        boxes += found[0]
        crops += found[1]
    p_fake = predict(np.stack(crops)) if crops else np.zeros(0, np.float32)
    lap.add("score_s")
    faces = [[*box, score] for box, score in zip(boxes, p_fake.tolist(), strict=True)]
    out.write_text(json.dumps({**lap.seconds, "faces": faces}))


if __name__ == "__main__":
    main()
