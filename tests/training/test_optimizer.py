"""Average, decay, smoothing and schedule, each held to a hand-written one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from dfd_core.model.preprocess import to_model_input
from dfd_core.training.optimizer import average_momentum, cosine_rate
from dfd_core.training.report import read_history
from tests.training.tiny_training import CARD, Setup, batch_of, build_plain, build_with_norm, settings


def trainable(trainer):
    return [np.asarray(variable) for variable in trainer.model.trainable_variables]


def test_the_average_of_the_weights_equals_a_hand_written_one_and_is_what_validates(tmp_path):
    wanted = settings(optimizer="adam", learning_rate=0.05, average=0.7, epochs=50)
    trainer = Setup.trainer(wanted, tmp_path, build=build_with_norm)
    trainer.begin()
    expected = None
    for step in range(3):
        trainer.train_step(batch_of(8, seed=step))
        own = trainable(trainer)
        expected = (
            own if expected is None else [0.7 * a + 0.3 * b for a, b in zip(expected, own, strict=True)]
        )
    validated = trainer.validate([batch_of(6, seed=9)], 6)
    for found, value in zip(trainable(trainer), own, strict=True):
        np.testing.assert_array_equal(found, value)  # training goes on from its own weights
    model = build_with_norm(wanted)
    model.set_weights(trainer.model.get_weights())  # with the moving statistics
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        variable.assign(value)
    images = to_model_input(batch_of(6, seed=9).crops, CARD)
    np.testing.assert_allclose(validated.p_fake, np.asarray(model(images))[:, 0], atol=1e-6)
    trainer.end_epoch(validated)
    trainer.end()
    for found, value in zip(trainable(trainer), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-6)
    again = trainer.validate([batch_of(6, seed=9)], 6)
    np.testing.assert_allclose(again.p_fake, validated.p_fake, atol=1e-6)


def test_the_average_of_a_short_run_forgets_its_start():
    assert average_momentum(0.999, 300) == pytest.approx(1 - 1 / 30)
    assert average_momentum(0.999, 300) ** 300 < 1e-4
    assert average_momentum(0.9, 10_000) == 0.9
    assert average_momentum(0.9, 5) == 0


def test_weight_decay_shrinks_kernels_and_leaves_biases_and_norms(tmp_path):
    wanted = settings(optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    trainer = Setup.trainer(wanted, tmp_path, build=build_with_norm)
    trainer.begin()
    before = trainable(trainer)
    batch = batch_of(8)
    batch.weight[:] = 0  # no gradient: what moves is the decay
    trainer.train_step(batch)
    for variable, old in zip(trainer.model.trainable_variables, before, strict=True):
        factor = 1 - 0.1 * 0.5 if old.ndim > 1 else 1
        np.testing.assert_allclose(np.asarray(variable), factor * old, rtol=1e-5)
    assert {value.ndim for value in before} == {1, 2, 4}


def test_label_smoothing_descends_the_loss_of_smoothed_targets(tmp_path):
    trainer = Setup.trainer(settings(label_smoothing=0.2), tmp_path)
    trainer.begin()
    batch = batch_of(8)
    trainer.train_step(batch)
    model = build_plain(settings())
    with tf.GradientTape() as tape:
        p = model(to_model_input(batch.crops, CARD), training=True)
        is_fake = tf.cast(batch.is_fake, tf.float32)
        target = is_fake * 0.9 + (1 - is_fake) * 0.1
        loss = -tf.reduce_mean(target * tf.math.log(p[:, 0]) + (1 - target) * tf.math.log(p[:, 1]))
    variables = [variable.value for variable in model.trainable_variables]
    for found, variable, gradient in zip(
        trainable(trainer), variables, tape.gradient(loss, variables), strict=True
    ):
        np.testing.assert_allclose(found, variable.numpy() - gradient.numpy(), atol=1e-5)


def test_the_cosine_warms_up_falls_to_the_floor_and_is_in_the_history(tmp_path):
    wanted = settings(lr_schedule="cosine", learning_rate=0.1, min_learning_rate=0.01, epochs=2)
    rates = [cosine_rate(wanted, step, 100) for step in range(101)]
    assert rates[:5] == pytest.approx([0.1 * (step + 1) / 5 for step in range(5)], rel=0.01)
    assert rates[50] == pytest.approx(0.055)
    assert rates[100] == pytest.approx(0.01)
    assert all(one >= other for one, other in pairwise(rates[4:]))
    assert cosine_rate(wanted, 300, 100_000) == pytest.approx(0.1, rel=1e-3)
    trainer = Setup.trainer(wanted, tmp_path)
    trainer.begin()
    for epoch in range(2):
        for step in range(3):
            trainer.train_step(batch_of(8, seed=10 * epoch + step))
        trainer.end_epoch(trainer.validate([batch_of(4)], 4))
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 6)) / 2 for step in (2, 5)]
    assert [row["learning_rate"] for row in read_history(tmp_path)] == pytest.approx(expected, rel=1e-5)
