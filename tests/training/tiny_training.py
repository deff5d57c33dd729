"""What the tests of training share: two tiny models, faces, settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from dfd_core.model.card import ModelCard
from dfd_core.training.augment import Augmentation
from dfd_core.training.batch import Batch
from dfd_core.training.process import strategy_for
from dfd_core.training.settings import TrainingSettings
from dfd_core.training.trainer import Trainer

SIDE_PX = 16
CARD = ModelCard("tiny", input_size=SIDE_PX)
WITH_NORM = "with_norm"


def build_plain(settings: TrainingSettings, *, norm: bool = False) -> Any:
    layers: list[Any] = [
        keras.Input((SIDE_PX, SIDE_PX, 3)),
        keras.layers.Conv2D(4, 3, 2, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
    ]
    layers += [keras.layers.BatchNormalization(momentum=0.5)] if norm else []
    return keras.Sequential(
        [
            *layers,
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(
                2, "softmax", kernel_initializer=keras.initializers.GlorotUniform(seed=2), dtype="float32"
            ),
        ]
    )


def build_with_norm(settings: TrainingSettings) -> Any:
    return build_plain(settings, norm=True)


def settings(**changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {
        "backbone": "small_resnet",
        "input_size": SIDE_PX,
        "weights": "none",
        "batch_size": 8,
        "learning_rate": 1.0,
        "optimizer": "sgd",
        "precision": "float32",
        "augmentation": Augmentation.none(),
    }
    return TrainingSettings(**{**values, **changes})


def averaging(**changes: Any) -> TrainingSettings:
    return settings(learning_rate=0.1, average=0.5, lr_schedule="cosine", label_smoothing=0.1, **changes)


def batch_of(count: int, *, seed: int = 0, weight: float = 1.0) -> Batch:
    rng = np.random.default_rng(seed)
    is_fake = np.arange(count) % 2 == 0
    crops = rng.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    crops[is_fake, ::2] //= 2
    return Batch(crops, is_fake, np.full(count, weight, np.float32), np.arange(count))


def part(batch: Batch, rank: int, workers: int) -> Batch:
    fields = [field.name for field in dataclasses.fields(batch)]
    return Batch(**{name: getattr(batch, name)[rank::workers] for name in fields})


class Setup:
    @staticmethod
    def builds() -> dict[str, Callable[[TrainingSettings], Any]]:
        return {"plain": build_plain, WITH_NORM: build_with_norm}

    @staticmethod
    def trainer(
        wanted: TrainingSettings,
        folder: Any,
        *,
        build: Callable[[TrainingSettings], Any] = build_plain,
        num_workers: int = 1,
        steps_per_epoch: int = 3,
    ) -> Trainer:
        return Trainer(
            wanted,
            CARD,
            strategy=strategy_for(num_workers),
            steps_per_epoch=steps_per_epoch,
            work_folder=folder,
            build=build,
        )
