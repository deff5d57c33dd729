"""The step against a hand-written one, two workers against one, and a resumed run against an undisturbed one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dfd_core.errors import ModelError, RequestError
from dfd_core.model.build import load_model
from dfd_core.model.predictor import load_predictor
from dfd_core.model.preprocess import to_model_input
from dfd_core.model.source import ModelSource, resolve_model, untrained_card
from dfd_core.training.batch import Validated
from dfd_core.training.network import build_network
from dfd_core.training.process import strategy_for
from dfd_core.training.report import best_epoch, diverged_epoch, read_history
from dfd_core.training.settings import HISTORY_FILENAME, LOGS_FOLDER
from dfd_core.training.trainer import Trainer
from tests.training.tiny_training import (
    CARD,
    WITH_NORM,
    Setup,
    averaging,
    batch_of,
    build_plain,
    build_with_norm,
    settings,
)

ROOT = Path(__file__).resolve().parents[2]


def validated(loss):
    """Four faces whose mean log loss is `loss`."""
    p_true = np.float32(np.exp(-loss))
    return Validated(np.array([p_true, 1 - p_true] * 2, np.float32), np.array([True, False] * 2))


def reference_step(batch):
    """One step of plain gradient descent on the mean cross-entropy, written with nothing of the project but the input."""
    model = build_plain(settings())
    with tf.GradientTape() as tape:
        p = model(to_model_input(batch.crops, CARD), training=True)
        p_true = tf.where(batch.is_fake, p[:, 0], p[:, 1])
        loss = -tf.reduce_mean(tf.math.log(p_true))
    variables = [variable.value for variable in model.trainable_variables]
    return [
        variable.numpy() - gradient.numpy()
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True)
    ]


def test_a_step_descends_the_mean_loss_of_the_batch(tmp_path):
    trainer = Setup.trainer(settings(), tmp_path)
    trainer.begin()
    trainer.train_step(batch_of(8))
    for found, expected in zip(trainer.model.get_weights(), reference_step(batch_of(8)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_faces_of_weight_zero_count_nowhere(tmp_path):
    trainer = Setup.trainer(settings(), tmp_path)
    trainer.begin()
    batch = batch_of(8)
    batch.weight[4:] = 0
    before = trainer.model.get_weights()
    trainer.train_step(batch)
    halved = [(new - old) * 2 for new, old in zip(trainer.model.get_weights(), before, strict=True)]
    expected = [new - old for new, old in zip(reference_step(batch_of_first(4)), before, strict=True)]
    for found, wanted in zip(halved, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    filled = batch_of(6)
    filled.weight[4:] = 0
    filled.position[4:] = 0
    assert len(trainer.validate([filled], 4).p_fake) == 4


def batch_of_first(count):
    whole = batch_of(8)
    return type(whole)(
        whole.crops[:count], whole.is_fake[:count], whole.weight[:count], whole.position[:count]
    )


def test_a_validation_face_that_is_missing_or_twice_is_an_error(tmp_path):
    trainer = Setup.trainer(settings(), tmp_path)
    with pytest.raises(RuntimeError, match="exactly once"):
        trainer.validate([batch_of(4)], 5)
    with pytest.raises(RuntimeError, match="exactly once"):
        trainer.validate([batch_of(4), batch_of(2)], 4)


def diverging(folder, **changes):
    """A trainer that has taken a step with an absurd learning rate."""
    trainer = Setup.trainer(settings(learning_rate=1e38, **changes), folder)
    trainer.begin()
    for seed in range(3):
        trainer.train_step(batch_of(8, seed=seed))
    return trainer


def test_a_training_that_diverges_in_its_first_epoch_is_refused_in_words(tmp_path):
    trainer = diverging(tmp_path)
    assert trainer.has_diverged
    found = trainer.validate([batch_of(4)], 4)
    assert not found.is_finite
    with pytest.raises(
        RequestError, match=r"diverged.*--overwrite and a lower --learning-rate\. Received: 1e\+38"
    ):
        trainer.end_epoch(found)


def test_a_weight_that_is_no_number_is_a_divergence_whatever_the_scores_are(tmp_path):
    trainer = diverging(tmp_path)
    with pytest.raises(RequestError, match="diverged"):
        trainer.end_epoch(validated(0.5))


def test_a_training_that_diverges_later_ends_with_its_best_epoch_also_after_a_resume(tmp_path):
    calm = Setup.trainer(settings(learning_rate=1e-3), tmp_path / "0")
    calm.begin()
    best = None
    for loss in (0.5, 0.6):
        calm.train_step(batch_of(8))
        best = calm.model.get_weights() if calm.epoch == 0 else best
        assert not calm.has_diverged
        calm.end_epoch(validated(loss))
    calm.model.optimizer.learning_rate = 1e38
    for seed in range(3):
        calm.train_step(batch_of(8, seed=seed))
    logs = calm.end_epoch(calm.validate([batch_of(4)], 4))
    assert np.isnan([logs["val_loss"], logs["val_accuracy"], logs["val_auc"]]).all()
    assert calm.should_stop
    (tmp_path / "state").mkdir()
    calm.save(tmp_path / "state")
    resumed = Setup.trainer(settings(learning_rate=1e-3), tmp_path / "1")
    resumed.load(tmp_path / "state", first_worker=True)
    resumed.begin()
    assert resumed.should_stop
    for trainer, folder in ((calm, "0"), (resumed, "1")):
        trainer.end()
        for found, expected in zip(trainer.model.get_weights(), best, strict=True):
            np.testing.assert_array_equal(found, expected)
        assert trainer.validate([batch_of(4)], 4).is_finite
        history = read_history(tmp_path / folder)
        assert (len(history), best_epoch(history), diverged_epoch(history)) == (3, 1, 3)


def test_the_validation_figures_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) < 0.4, rng.random(200).astype(np.float32)
    found = Validated(scores, labels).figures()
    assert found["val_loss"] == pytest.approx(log_loss(labels, scores.astype(float)), rel=1e-6)
    assert found["val_accuracy"] == accuracy_score(labels, scores >= 0.5)
    assert found["val_auc"] == roc_auc_score(labels, scores)


def _ports_that_no_client_takes(count):
    """Return free ports below those that the system gives to outgoing connections, and beyond Ray's."""
    free = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            free.append(port)
    return free[:count]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """What each of two processes found after one step on its half of the batch."""
    out = tmp_path_factory.mktemp("two")
    addresses = [f"127.0.0.1:{port}" for port in _ports_that_no_client_takes(2)]
    processes = []
    for rank in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TF_USE_LEGACY_KERAS": "1"}
        command = [sys.executable, "-m", "tests.training.two_workers", str(out)]
        with (out / f"worker{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log))
    codes = [process.wait(timeout=240) for process in processes]
    said = [(out / f"worker{rank}.log").read_text()[-3000:] for rank in range(2)]
    assert codes == [0, 0], "\n\n".join(said)
    return [dict(np.load(out / f"worker{rank}.npz")) for rank in range(2)]


def test_two_workers_take_the_same_first_step_as_one_with_the_whole_batch(two_workers, tmp_path):
    trainer = Setup.trainer(settings(), tmp_path)
    trainer.begin()
    before = trainer.model.get_weights()
    trainer.train_step(batch_of(8))
    for number, (alone, start) in enumerate(zip(trainer.model.get_weights(), before, strict=True)):
        assert (alone != start).any()  # with plain descent at rate 1 the difference is the gradient
        for worker in two_workers:
            np.testing.assert_allclose(worker[f"plain/{number}"] - start, alone - start, atol=1e-6)
    faces = trainer.validate([batch_of(6, seed=5)], 6)
    logs = trainer.end_epoch(faces)
    for worker in two_workers:
        np.testing.assert_allclose(worker["plain/p_fake"], faces.p_fake, atol=1e-5)
        np.testing.assert_allclose(worker["plain/loss"], [logs["loss"], logs["val_loss"]], rtol=1e-4)


def test_workers_normalise_by_their_own_batch_and_share_the_mean_of_their_statistics(two_workers, tmp_path):
    trainer = Setup.trainer(settings(), tmp_path, build=build_with_norm)
    model = trainer.model
    halves = [batch_of(8).crops[rank::2] for rank in range(2)]
    statistics = []
    for half in halves:
        activations = np.asarray(model.layers[0](to_model_input(half, CARD)))
        statistics.append([activations.mean(axis=(0, 1, 2)), activations.var(axis=(0, 1, 2))])
    names = [variable.path.rpartition("/")[2] for variable in model.weights]
    mean, variance = (names.index(name) for name in ("moving_mean", "moving_variance"))
    for worker in two_workers:
        np.testing.assert_allclose(
            worker[f"{WITH_NORM}/{mean}"], 0.5 * np.mean([s[0] for s in statistics], axis=0), atol=1e-5
        )
        np.testing.assert_allclose(
            worker[f"{WITH_NORM}/{variance}"],
            0.5 + 0.5 * np.mean([s[1] for s in statistics], axis=0),
            atol=1e-5,
        )


def test_two_workers_keep_the_average_that_one_keeps(two_workers, tmp_path):
    trainer = Setup.trainer(averaging(), tmp_path)
    trainer.begin()
    for seed in range(3):
        trainer.train_step(batch_of(8, seed=seed))
    expected = trainer.validate([batch_of(6, seed=5)], 6).p_fake
    for worker in two_workers:
        np.testing.assert_allclose(worker["average/p_fake"], expected, atol=1e-5)


def test_every_worker_has_the_same_weights_and_only_the_first_saves(two_workers):
    first, second = two_workers
    for name in first:
        if name != "saved":
            np.testing.assert_array_equal(first[name], second[name])
    assert first["saved"] > 0 == second["saved"]


def test_a_run_that_goes_on_in_mid_epoch_ends_like_one_that_was_never_stopped(tmp_path):
    wanted = settings(optimizer="adam", learning_rate=0.01, epochs=2)
    batches = [[batch_of(8, seed=10 * epoch + step) for step in range(3)] for epoch in range(2)]
    straight = Setup.trainer(wanted, tmp_path / "a", build=build_with_norm)
    straight.begin()
    for epoch in batches:
        for batch in epoch:
            straight.train_step(batch)
        straight.end_epoch(straight.validate([batch_of(8, seed=99)], 8))
    straight.end()

    stopped = Setup.trainer(wanted, tmp_path / "b", build=build_with_norm)
    stopped.begin()
    for batch in batches[0]:
        stopped.train_step(batch)
    stopped.end_epoch(stopped.validate([batch_of(8, seed=99)], 8))
    stopped.train_step(batches[1][0])
    (tmp_path / "state").mkdir()
    stopped.save(tmp_path / "state")
    resumed = Setup.trainer(wanted, tmp_path / "c", build=build_with_norm)
    resumed.load(tmp_path / "state", first_worker=True)
    resumed.begin()
    assert (resumed.epoch, resumed.step) == (1, 1)
    for batch in batches[1][1:]:
        resumed.train_step(batch)
    resumed.end_epoch(resumed.validate([batch_of(8, seed=99)], 8))
    resumed.end()
    assert resumed.should_stop
    for found, expected in zip(resumed.model.get_weights(), straight.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    histories = [read_history(tmp_path / name) for name in "ac"]
    assert len(histories[1]) == 2
    for one, other in zip(*histories, strict=True):
        assert one.keys() == other.keys()
        assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("cut", [None, 2, 4])
def test_keras_callbacks_lower_the_rate_and_stop_and_keep_the_best_also_after_a_resume(tmp_path, cut):
    wanted = settings(learning_rate=1e-3, patience=4, lr_patience=2, min_learning_rate=1e-4, epochs=50)
    trainer = Setup.trainer(wanted, tmp_path / "0")
    trainer.begin()
    best = None
    losses = [0.6, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    while not trainer.should_stop:
        if trainer.epoch == cut:
            state = tmp_path / "state"
            state.mkdir()
            trainer.save(state)
            trainer = Setup.trainer(wanted, tmp_path / "1")
            trainer.load(state, first_worker=True)
            trainer.begin()
            cut = None
        trainer.train_step(batch_of(8))
        best = trainer.model.get_weights() if trainer.epoch == 1 else best
        trainer.end_epoch(validated(losses[trainer.epoch]))
    assert trainer.epoch == 6  # the second was the best, and four were not
    folder = tmp_path / ("1" if (tmp_path / "1").exists() else "0")
    rates = [row["learning_rate"] for row in read_history(folder)]
    assert rates == pytest.approx([1e-3] * 4 + [2e-4] * 2)
    trainer.end()
    for found, expected in zip(trainer.model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_epoch_is_in_the_history_and_in_event_files(tmp_path):
    trainer = Setup.trainer(settings(learning_rate=0.01), tmp_path)
    trainer.begin()
    for _ in range(2):
        trainer.train_step(batch_of(8))
        trainer.end_epoch(validated(0.5))
    trainer.end()
    names = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_auc", "learning_rate"}
    assert [row.keys() for row in read_history(tmp_path)] == [names, names]
    found = {}
    for side in ("train", "validation"):
        for path in sorted((tmp_path / LOGS_FOLDER / side).iterdir()):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    found[side, value.tag, event.step] = value.simple_value
    assert found["validation", "epoch_loss", 1] == pytest.approx(0.5, abs=1e-6)
    assert {(side, step) for side, tag, step in found if tag == "epoch_accuracy"} == {
        (side, step) for side in ("train", "validation") for step in (0, 1)
    }


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_model_trained_in_half_precision_is_kept_in_float32_and_scores(tmp_path, precision):
    trainer = Trainer(
        settings(precision=precision), CARD, strategy=strategy_for(1), steps_per_epoch=3, work_folder=tmp_path
    )
    trainer.begin()
    trainer.train_step(batch_of(8))
    assert trainer.model.layers[0].compute_dtype == precision
    assert np.isfinite(trainer.running()["loss"])
    exported = keras.saving.load_model(trainer.export(tmp_path))
    assert {layer.compute_dtype for layer in exported._flatten_layers()} == {"float32"}
    for one, other in zip(exported.get_weights(), trainer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert keras.mixed_precision.dtype_policy().name == "float32"


def test_an_exported_model_is_a_bundle_whose_predictor_says_what_the_trainer_does(tmp_path):
    trainer = Trainer(
        settings(learning_rate=0.01),
        CARD,
        strategy=strategy_for(1),
        steps_per_epoch=3,
        work_folder=tmp_path / "w",
    )
    trainer.begin()
    trainer.train_step(batch_of(8))
    trainer.export(tmp_path)
    (tmp_path / "card.json").write_text(CARD.to_json())
    batch = batch_of(8, seed=3)
    predict = load_predictor(resolve_model(tmp_path), precision="float32")
    np.testing.assert_allclose(predict(batch.crops), trainer.validate([batch], 8).p_fake, atol=1e-4)
    card = CARD.to_json().replace(
        '"threshold"', '"calibration": {"kind": "temperature", "temperature": 3}, "threshold"'
    )
    (tmp_path / "card.json").write_text(card)
    calibrated = load_predictor(resolve_model(tmp_path), precision="float32")(batch.crops)
    raw = load_predictor(resolve_model(tmp_path, raw=True), precision="float32")(batch.crops)
    np.testing.assert_array_equal(raw, predict(batch.crops))
    logits = np.log(raw) - np.log1p(-raw)
    np.testing.assert_allclose(calibrated, 1 / (1 + np.exp(-logits / 3)), atol=1e-5)


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path):
    trainer = Trainer(
        settings(freeze_until="stage2_block2_out", batch_norm_momentum=0.7),
        CARD,
        strategy=strategy_for(1),
        steps_per_epoch=3,
        work_folder=tmp_path,
    )
    before = {variable.path: np.asarray(variable) for variable in trainer.model.weights}
    trainer.begin()
    trainer.train_step(batch_of(8))
    changed = {v.path for v in trainer.model.weights if (np.asarray(v) != before[v.path]).any()}
    assert {path.split("/")[-2].split("_")[0] for path in changed} >= {"stage3", "stage4", "dense"} - {
        "dense"
    }
    assert not [path for path in changed if any(name in path for name in ("stem", "stage1", "stage2"))]
    layers = [
        layer
        for layer in trainer.model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert {layer.momentum for layer in layers} == {0.7}


def test_a_layer_that_is_not_there_is_named_with_its_likes():
    with pytest.raises(ModelError, match=r"no layer 'stage9_block2_out'.*stage\d_block2_out"):
        build_network(settings(freeze_until="stage9_block2_out"))


def test_weights_may_lie_in_remote_storage(tmp_path):
    import fsspec

    trainer = Trainer(
        settings(seed=5), CARD, strategy=strategy_for(1), steps_per_epoch=3, work_folder=tmp_path / "w"
    )
    content = trainer.export(tmp_path).read_bytes()
    fsspec.filesystem("memory").pipe("/bundles/one/model.keras", content)
    for address in ("memory://bundles/one", "memory://bundles/one/model.keras"):
        copied = build_network(settings(seed=6, weights=address))
        for found, expected in zip(copied.get_weights(), trainer.model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_small_network_has_no_imagenet_weights_and_is_a_model_like_any_other():
    with pytest.raises(ModelError, match="no ImageNet weights"):
        build_network(settings(weights="imagenet"))
    model = load_model(ModelSource(untrained_card("SmallResNet", 32), backbone="small_resnet"))
    assert model.count_params() == pytest.approx(2.8e6, rel=0.02)
    assert model.layers[0].output_shape == (None, 2, 2, 256)


def test_the_history_file_has_the_name_that_the_bundle_gets(tmp_path):
    Setup.trainer(settings(), tmp_path).begin()
    assert (tmp_path / HISTORY_FILENAME).exists()
