"""What this project's inference graph buys against TensorFlow's own freezing: cold start and warm speed.

    python benchmarks/freezing.py --model untrained:inception_resnet_v2 --precision bfloat16

Each way runs in a process of its own, in turn. The clock of the start begins with the import of TensorFlow and ends with
the first 64 scores. Prints one table, the least of the
repeats in each column; docs/decisions/0005-inference-graph.md keeps one.
"""

from __future__ import annotations

import json
import os
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

Score = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Faces, (n, height, width, 3) uint8 RGB → p_fake, (n,) float32."""

_BATCH = 64
_WARM_BATCHES = 10


def ours(source: Any, precision: str, folder: str) -> Score:
    from dfd_core.model.predictor import load_predictor

    return load_predictor(source, precision=precision, batch_size=_BATCH)


def ours_kept(source: Any, precision: str, folder: str) -> Score:
    from dfd_core.model.predictor import load_predictor

    return load_predictor(source, precision=precision, batch_size=_BATCH, cache_dir=folder)


def plain_function(source: Any, precision: str, folder: str) -> Score:
    """`tf.function` of the model, its layers under Keras' mixed precision."""
    import tensorflow as tf

    model, prepare, p_fake = _keras(source)
    if precision != "float32":
        for layer in model._flatten_layers():
            if (
                not layer._flatten_layers(include_self=False, recursive=False)
                and layer is not model.layers[-1]
            ):
                layer.dtype_policy = f"mixed_{precision}"
    size = source.card.input_size
    spec = tf.TensorSpec((None, size, size, 3), tf.float32)
    forward = tf.function(
        lambda images: tf.cast(model(images, training=False), tf.float32), input_signature=[spec]
    )
    return lambda crops: p_fake(forward(tf.constant(prepare(crops))).numpy())


def frozen(source: Any, precision: str, folder: str) -> Score:
    """`convert_variables_to_constants_v2` and grappler with all its passes."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if precision == "bfloat16":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    model, prepare, p_fake = _keras(source)
    size = source.card.input_size
    forward = tf.function(lambda images: model(images, training=False))
    concrete = convert_variables_to_constants_v2(
        forward.get_concrete_function(tf.TensorSpec((None, size, size, 3), tf.float32))
    )
    return lambda crops: p_fake(np.asarray(concrete(tf.constant(prepare(crops)))[0]))


def frozen_few_passes(source: Any, precision: str, folder: str) -> Score:
    """The weights traced as constants, in a session with three passes of grappler once."""
    import tensorflow as tf

    model, prepare, p_fake = _keras(source)
    size = source.card.input_size
    graph = tf.Graph()
    weights = [np.asarray(value) for value in model.variables]
    num_trainable = len(model.trainable_variables)
    ordered = [np.asarray(v) for v in (*model.trainable_variables, *model.non_trainable_variables)]
    assert len(weights) == len(ordered)
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, (None, size, size, 3))
        constants = [tf.constant(value) for value in ordered]
        outputs, _ = model.stateless_call(
            constants[:num_trainable], constants[num_trainable:], images, training=False
        )
        outputs = tf.cast(outputs, tf.float32)
    config = tf.compat.v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers.extend(["constfold", "remap"])
    if precision == "bfloat16":
        rewrite.optimizers.append("auto_mixed_precision_onednn_bfloat16")
    rewrite.meta_optimizer_iterations = 1
    session = tf.compat.v1.Session(graph=graph, config=config)
    run = session.make_callable(outputs, [images])
    return lambda crops: p_fake(run(prepare(crops)))


WAYS: dict[str, Callable[[Any, str, str], Score]] = {
    "this project's graph": ours,
    "this project's graph, kept on disk": ours_kept,
    "tf.function, Keras' mixed precision": plain_function,
    "TensorFlow's freezing, all passes": frozen,
    "constants, three passes once": frozen_few_passes,
}


def _keras(source: Any) -> tuple[Any, Score, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]]:
    from dfd_core.model.build import load_model
    from dfd_core.model.predictor import p_fake_of
    from dfd_core.model.preprocess import to_model_input

    return (
        load_model(source),
        lambda crops: to_model_input(crops, source.card),
        lambda outputs: p_fake_of(np.asarray(outputs, np.float32), source.card),
    )


def run_way(name: str, model: str, precision: str, folder: str) -> dict[str, Any]:
    """Return the seconds of the start and of a warm face, and some scores."""
    from dfd_core.model.source import resolve_model

    source = resolve_model(model, raw=True)
    size = source.card.input_size
    faces = np.random.default_rng(0).integers(0, 256, (_BATCH, size, size, 3)).astype(np.uint8)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    score = WAYS[name](source, precision, folder)
    p_fake = score(faces)
    start_s, start_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    score(faces)
    laps, cpu_laps = [], []
    for _ in range(_WARM_BATCHES):
        lap_s, lap_cpu_s = time.perf_counter(), time.process_time()
        score(faces)
        laps.append((time.perf_counter() - lap_s) / _BATCH)
        cpu_laps.append((time.process_time() - lap_cpu_s) / _BATCH)
    return {
        "start_s": start_s,
        "start_cpu_s": start_cpu_s,
        "face_s": min(laps),
        "face_cpu_s": min(cpu_laps),
        "p_fake": p_fake.tolist(),
    }


@click.command()
@click.option("--model", default="untrained:inception_resnet_v2", show_default=True)
@click.option("--precision", default="bfloat16", show_default=True)
@click.option("--repeats", default=2, show_default=True)
@click.option("--way", hidden=True, nargs=2, type=str, help="One way, in this process: NAME FOLDER.")
def main(model: str, precision: str, repeats: int, way: tuple[str, str] | None) -> None:
    """Start and run MODEL in every way."""
    if way:
        print(json.dumps(run_way(way[0], model, precision, way[1])))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="dfd-bench-") as folder:
        run = [sys.executable, __file__, "--model", model, "--precision", precision]
        kept = [*run, "--way", "this project's graph, kept on disk", folder]
        subprocess.run(kept, check=True, capture_output=True)  # now it is kept
        for _ in range(repeats):
            for name in WAYS:
                done = subprocess.run(
                    [*run, "--way", name, folder], check=True, capture_output=True, text=True
                )
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{model}, {precision}, batch {_BATCH}, {os.cpu_count()} cores, {repeats} repeats\n")
    print(f"{'':<37} {'start s':>8} {'CPU s':>7} {'ms a face':>10} {'CPU ms':>7} {'p_fake from ours':>17}")
    reference = np.array(found["this project's graph"][0]["p_fake"])
    for name, runs in found.items():
        start_s, cpu_s, face_s, face_cpu_s = (
            min(run[kind] for run in runs) for kind in ("start_s", "start_cpu_s", "face_s", "face_cpu_s")
        )
        difference = max(np.abs(np.array(run["p_fake"]) - reference).max() for run in runs)
        print(
            f"{name:<37} {start_s:>8.1f} {cpu_s:>7.1f} {1e3 * face_s:>10.2f} {1e3 * face_cpu_s:>7.2f} {difference:>17.1e}"
        )


if __name__ == "__main__":
    main()
