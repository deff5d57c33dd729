"""What a face costs in this job's predictor and in the other ways to run a Keras model on a CPU.

    python benchmarks/bench_model.py ../shared/data/archive --faces 128 --repeats 2

The same real faces in every way, each way in a process of its own, in turn. Prints a table for each model: seconds from
importing TensorFlow to the first 64 scores; then, warm, milliseconds of wall clock and of CPU a face, how many times
slower than this job's own choice (`auto`), and the largest difference of a p_fake from the model called in float32.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.job_runs import DEFAULT_SOURCE, clips_of

Score = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Faces, (n, height, width, 3) uint8 RGB → p_fake, (n,) float32."""

_BATCH = 64


def one_predict_a_face(source: Any) -> Score:
    """`model.predict`, one face at a time, as in the seed report."""
    model, prepare, p_fake = _keras(source)
    return lambda crops: np.concatenate(
        [p_fake(model.predict(prepare(crop[None]), verbose=0)) for crop in crops]
    )


def compiled_function(source: Any) -> Score:
    """`tf.function` of the model, float32."""
    import tensorflow as tf

    model, prepare, p_fake = _keras(source)
    forward = tf.function(lambda images: model(images, training=False))
    return lambda crops: _in_batches(crops, lambda part: p_fake(forward(prepare(part)).numpy()))


def frozen_graph(source: Any) -> Score:
    """TensorFlow's own freezing and optimiser, float32."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model, prepare, p_fake = _keras(source)
    size = source.card.input_size
    forward = tf.function(lambda images: model(images, training=False))
    concrete = forward.get_concrete_function(tf.TensorSpec((None, size, size, 3), tf.float32))
    frozen = convert_variables_to_constants_v2(concrete)
    return lambda crops: _in_batches(
        crops, lambda part: p_fake(np.asarray(frozen(tf.constant(prepare(part)))[0]))
    )


def frozen_graph_bfloat16(source: Any) -> Score:
    """The same with grappler's `auto_mixed_precision_onednn_bfloat16`."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    return frozen_graph(source)


def predictor(precision: str) -> Callable[[Any], Score]:
    """Return this job's predictor of a precision."""

    def load(source: Any) -> Score:
        from dfd_core.model.predictor import load_predictor

        return load_predictor(source, precision=precision, batch_size=_BATCH)

    return load


WAYS: dict[str, Callable[[Any], Score]] = {
    "model.predict, a face at a time": one_predict_a_face,
    "tf.function, float32": compiled_function,
    "frozen by TensorFlow, float32": frozen_graph,
    "frozen by TensorFlow, bfloat16": frozen_graph_bfloat16,
    "this job, float32": predictor("float32"),
    "this job, bfloat16": predictor("bfloat16"),
    "this job, auto": predictor("auto"),
}
_REFERENCE, _OURS = "tf.function, float32", "this job, auto"


def _keras(source: Any) -> tuple[Any, Score, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]]:
    from dfd_core.model.build import load_model
    from dfd_core.model.predictor import p_fake_of
    from dfd_core.model.preprocess import to_model_input

    return (
        load_model(source),
        lambda crops: to_model_input(crops, source.card),
        lambda outputs: p_fake_of(np.asarray(outputs, np.float32), source.card),
    )


def _in_batches(crops: npt.NDArray[np.uint8], score: Score) -> npt.NDArray[np.float32]:
    return np.concatenate([score(crops[at : at + _BATCH]) for at in range(0, len(crops), _BATCH)])


def faces_of_clips(source: str, *, count: int, crop_px: int) -> npt.NDArray[np.uint8]:
    """Return `count` faces of the clips of `source`, repeated if there are fewer: (n, crop_px, crop_px, 3) uint8 RGB."""
    from benchmarks.way_floor import Lap, cut_faces
    from dfd_core.faces.detect import FrontalFaceDetector

    detect, crops = FrontalFaceDetector(), []
    for path in clips_of(source, 12):
        crops += cut_faces(path, detect, Lap(), crop_px=crop_px)[1]
        if len(crops) >= count:
            break
    if not crops:
        raise SystemExit(f"No face was found in {source}")
    return np.stack([crops[number % len(crops)] for number in range(count)])


def run_way(name: str, model: str, crops: Path, out: Path) -> None:
    """Score the faces in this process and write the seconds and scores to `out`."""
    from dfd_core.model.source import resolve_model

    faces = np.load(crops)
    began_s = time.perf_counter()
    score = WAYS[name](resolve_model(model, raw=True))
    score(faces[:_BATCH])
    start_s = time.perf_counter() - began_s
    score(faces[: len(faces) % _BATCH or 1])
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    p_fake = score(faces)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    out.write_text(
        json.dumps({"start_s": start_s, "wall_s": wall_s, "cpu_s": cpu_s, "p_fake": p_fake.tolist()})
    )


@click.command()
@click.argument("source", default=DEFAULT_SOURCE)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("default", "untrained:inception_resnet_v2"),
    show_default=True,
)
@click.option("--faces", default=2 * _BATCH, show_default=True)
@click.option("--repeats", default=2, show_default=True)
@click.option("--way", hidden=True, nargs=3, type=str, help="One way, in this process: NAME CROPS OUT.")
def main(
    source: str, models: tuple[str, ...], faces: int, repeats: int, way: tuple[str, str, str] | None
) -> None:
    """Score faces of the clips of SOURCE in every way, with every model."""
    if way:
        run_way(way[0], models[0], Path(way[1]), Path(way[2]))
        return
    for model in models:
        compare(source, model, faces, repeats)


def compare(source: str, model: str, faces: int, repeats: int) -> None:
    """Print the table of one model."""
    from dfd_core.model.source import resolve_model

    card = resolve_model(model, raw=True).card
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as folder:
        crops, out = Path(folder) / "faces.npy", Path(folder) / "out.json"
        np.save(crops, faces_of_clips(source, count=faces, crop_px=card.input_size))
        for _ in range(repeats):
            for name in WAYS:
                command = [sys.executable, __file__, "--model", model, "--way", name, str(crops), str(out)]
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                found[name].append(json.loads(out.read_text()))
    print(f"\n{faces} faces of {card.input_size} px, {model}, {os.cpu_count()} cores, {repeats} repeats\n")
    print(
        f"{'':<33} {'start s':>8} {'ms a face':>10} {'CPU ms':>8} {'way / auto':>11} {'p_fake from float32':>20}"
    )
    reference = np.array(found[_REFERENCE][0]["p_fake"])
    for name, runs in found.items():
        kinds = ("start_s", "wall_s", "cpu_s")
        start_s, wall_s, cpu_s = (statistics.median(run[kind] for run in runs) for kind in kinds)
        ratio = statistics.median(
            run["wall_s"] / ours["wall_s"] for run, ours in zip(runs, found[_OURS], strict=True)
        )
        difference = max(np.abs(np.array(run["p_fake"]) - reference).max() for run in runs)
        print(
            f"{name:<33} {start_s:>8.1f} {1e3 * wall_s / faces:>10.1f} {1e3 * cpu_s / faces:>8.1f} {ratio:>11.2f} {difference:>20.1e}"
        )


if __name__ == "__main__":
    main()
