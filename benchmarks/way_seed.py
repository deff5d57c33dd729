"""Ways a and b of `score_vs_seed.py`: the seed report's loop, in this process or in several.

    python -m benchmarks.way_seed CLIPS.json OUT.json --model untrained:inception_resnet_v2
    python -m benchmarks.way_seed CLIPS.json OUT.json --model untrained:inception_resnet_v2 --processes 2 --one-thread

OpenCV reads every frame of a clip, dlib looks at every (int(fps) + 1)th, and the model scores one face after the other
with `model.predict`. CLIPS.json is a list of paths. OUT.json then holds `faces`, a list of [path, frame_index, left, top,
right, bottom, p_fake], and `loop_s`, the wall-clock seconds from the first clip's start to the last one's end: without
importing the libraries, loading model and detector, and one prediction of an empty picture.

With `--processes N`, `multiprocessing.Pool` of N gives each process one clip after the other, so that none waits long for
another at the end; they begin together when all have loaded. `--one-thread` is what one adds after seeing each process
start as many threads as there are cores: one thread for TensorFlow, OpenCV, OpenCV's FFmpeg and OpenMP.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import click

Row = tuple[str, int, int, int, int, int, float]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_THREADS = {"OMP_NUM_THREADS": "1", "OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1"}


class SeedLoop:
    """The loop's body, with what it loads once."""

    def __init__(self, model: str, *, one_thread: bool) -> None:
        """Import the libraries, load `model` and the detector, and predict once."""
        if one_thread:
            os.environ.update(_THREADS)
        import cv2
        import dlib
        import numpy as np
        import tensorflow as tf

        from dfd_core.model.build import load_model
        from dfd_core.model.source import resolve_model

        if one_thread:
            cv2.setNumThreads(1)
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        source = resolve_model(model, raw=True)
        self._card = source.card
        self._model = load_model(source)
        self._detector = dlib.get_frontal_face_detector()
        self._p_fake(np.zeros((self._card.input_size, self._card.input_size, 3), np.uint8))

    def rows(self, path: str) -> Iterator[Row]:
        """Yield every face of the clip at `path`."""
        import cv2

        size = self._card.input_size
        capture = cv2.VideoCapture(path)
        rate, index = capture.get(cv2.CAP_PROP_FPS), 0
        while True:
            is_there, bgr = capture.read()
            if not is_there:
                return
            if index % (int(rate) + 1) == 0:
                rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                for box in self._detector.run(rgb, 0)[0]:
                    left, top, right, bottom = box.left(), box.top(), box.right(), box.bottom()
                    crop = cv2.resize(rgb[max(top, 0) : bottom, max(left, 0) : right], (size, size))
                    yield path, index, left, top, right, bottom, self._p_fake(crop)
            index += 1

    def _p_fake(self, crop: Any) -> float:
        from dfd_core.model.predictor import p_fake_of
        from dfd_core.model.preprocess import to_model_input

        outputs = self._model.predict(to_model_input(crop[None], self._card), verbose=0)
        return float(p_fake_of(outputs, self._card)[0])


# --- several processes --------------------------------------------------------------------------------------------

_loops: list[SeedLoop] = []
"""The process's one loop."""


def _load(model: str, one_thread: bool, ready: Barrier) -> None:
    _loops.append(SeedLoop(model, one_thread=one_thread))
    ready.wait()


def _do(path: str) -> tuple[float, float, list[Row]]:
    began_s = time.monotonic()  # of the machine, so that processes can be compared
    rows = list(_loops[0].rows(path))
    return began_s, time.monotonic(), rows


def pooled(paths: list[str], model: str, *, processes: int, one_thread: bool) -> tuple[float, list[Row]]:
    """Return the seconds of the loop, and every face, from `processes` processes."""
    ready = multiprocessing.Barrier(processes)
    with multiprocessing.Pool(processes, _load, (model, one_thread, ready)) as pool:
        done = list(pool.imap_unordered(_do, paths))
    loop_s = max(ended_s for _, ended_s, _ in done) - min(began_s for began_s, _, _ in done)
    return loop_s, [row for _, _, rows in done for row in rows]


def alone(paths: list[str], model: str, *, one_thread: bool) -> tuple[float, list[Row]]:
    """Return the same from this process."""
    loop = SeedLoop(model, one_thread=one_thread)
    began_s = time.monotonic()
    rows = [row for path in paths for row in loop.rows(path)]
    return time.monotonic() - began_s, rows


@click.command()
@click.argument("clips", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", required=True)
@click.option("--processes", default=0, help="0: no other process than this one.")
@click.option("--one-thread", is_flag=True)
def main(clips: Path, out: Path, model: str, processes: int, one_thread: bool) -> None:
    """Score the faces of the CLIPS as the seed report does, into OUT."""
    paths = json.loads(clips.read_text())
    if processes:
        loop_s, rows = pooled(paths, model, processes=processes, one_thread=one_thread)
    else:
        loop_s, rows = alone(paths, model, one_thread=one_thread)
    out.write_text(json.dumps({"loop_s": loop_s, "faces": rows}))


if __name__ == "__main__":
    main()
