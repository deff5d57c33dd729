"""The optimizer, the learning rate's schedule, and how far the average of the weights reaches back."""

from __future__ import annotations

import math
from typing import Any

import keras

from dfd_core.training.settings import TrainingSettings

_MOST_WARMUP_STEPS = 300
_WARMUP_SHARE = 0.05
_AVERAGED_SHARE = 0.1


def build_optimizer(
    settings: TrainingSettings, precision: str, *, variables: list[Any], total_steps: int
) -> Any:
    """Return the optimizer, built for `variables`; float16 gets loss scaling, without which small gradients vanish.

    Args:
        settings: Which optimizer, its rate, weight decay and average.
        precision: What the model computes in.
        variables: What learns.
        total_steps: Steps of the whole training.
    """
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    options: dict[str, Any] = {"learning_rate": settings.learning_rate}
    if settings.weight_decay is not None:
        options["weight_decay"] = settings.weight_decay
    if settings.average is not None:
        options |= {"use_ema": True, "ema_momentum": average_momentum(settings.average, total_steps)}
    optimizer = kinds[settings.optimizer](**options)
    if settings.weight_decay is not None:
        vectors = [variable for variable in variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def average_momentum(average: float, total_steps: int) -> float:
    """Return the momentum of the moving average of the weights, so small that it forgets the start of a short run.

    The average's mean age, 1 / (1 - momentum), is at most a tenth of the run.

    >>> average_momentum(0.999, 100_000), average_momentum(0.999, 1000)
    (0.999, 0.99)
    """
    return min(average, max(0.0, 1 - 1 / (_AVERAGED_SHARE * total_steps)))


def cosine_rate(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: a linear warm-up times a half cosine (Loshchilov and Hutter, ICLR 2017).

    The warm-up takes a twentieth of the training, at most 300 steps. The cosine falls from `learning_rate` to
    `min_learning_rate`.

    Args:
        settings: The two rates.
        step: From 0.
        total_steps: Steps of the whole training.
    """
    warmup_steps = min(_MOST_WARMUP_STEPS, max(1, round(_WARMUP_SHARE * total_steps)))
    low = min(settings.min_learning_rate, settings.learning_rate)
    decayed = low + (settings.learning_rate - low) * (1 + math.cos(math.pi * step / total_steps)) / 2
    return decayed * min(1.0, (step + 1) / warmup_steps)
