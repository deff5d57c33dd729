"""Way c of `score_vs_seed.py`: a Ray Data pipeline put together as Ray's documentation would have it.

    python -m benchmarks.way_plain_ray CLIPS.json OUT --model untrained:inception_resnet_v2

    from_items(clips) -> flat_map(faces) -> map_batches(Scorer, batch_size=64, concurrency=1) -> write_parquet(OUT)

A row is a face; OpenCV reads, dlib finds, `model.predict` scores batches in one actor. Everything of Ray's is at its
default, but for the dashboard, which is left out to Ray's advantage. A worker keeps its detector, which takes a second to
make, from clip to clip. CLIPS.json is a list of paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from dfd_core.model.source import resolve_model

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_BATCH_SIZE = 64


@lru_cache(maxsize=1)
def _detector() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


def faces(clip: dict[str, Any], *, size: int) -> Iterator[dict[str, Any]]:
    """Yield every face of a clip as a row, its crop (size, size, 3) uint8 RGB in it."""
    import cv2

    capture = cv2.VideoCapture(clip["path"])
    rate, index = capture.get(cv2.CAP_PROP_FPS), 0
    while True:
        is_there, bgr = capture.read()
        if not is_there:
            return
        if index % (int(rate) + 1) == 0:
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            for box in _detector().run(rgb, 0)[0]:
                sides = {name: getattr(box, name)() for name in ("left", "top", "right", "bottom")}
                crop = rgb[max(box.top(), 0) : box.bottom(), max(box.left(), 0) : box.right()]
                yield {**clip, "frame_index": index, **sides, "crop": cv2.resize(crop, (size, size))}
        index += 1


class Scorer:
    """The model, loaded once, that scores batches of faces."""

    def __init__(self, model: str) -> None:
        """Load `model`."""
        from dfd_core.model.build import load_model

        source = resolve_model(model, raw=True)
        self._card = source.card
        self._model = load_model(source)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with `p_fake` in place of the crops."""
        from dfd_core.model.predictor import p_fake_of
        from dfd_core.model.preprocess import to_model_input

        crops = batch.pop("crop")
        outputs = self._model.predict(to_model_input(crops, self._card), batch_size=_BATCH_SIZE, verbose=0)
        return {**batch, "p_fake": p_fake_of(outputs, self._card)}


@click.command()
@click.argument("clips", type=click.Path(path_type=Path))
@click.argument("out")
@click.option("--model", required=True)
def main(clips: Path, out: str, model: str) -> None:
    """Score the faces of the CLIPS with Ray Data, into the folder OUT."""
    # Read when Ray is imported: a cluster of one machine stays on the loopback interface.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    ray.init(include_dashboard=False)
    size = resolve_model(model, raw=True).card.input_size
    (
        ray.data.from_items([{"path": path} for path in json.loads(clips.read_text())])
        .flat_map(faces, fn_kwargs={"size": size})  # 1 clip : n faces
        .map_batches(Scorer, fn_constructor_args=(model,), batch_size=_BATCH_SIZE, concurrency=1)  # 1 : 1
        .write_parquet(out)
    )
    ray.shutdown()


if __name__ == "__main__":
    from benchmarks import way_plain_ray  # by its name, so that a worker's functions keep what they load

    way_plain_ray.main()
