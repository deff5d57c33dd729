"""A small residual network of the project's own, for training from random weights where data or time are scarce."""

from __future__ import annotations

from typing import Any

import keras

STEM_CHANNELS = 32
STAGE_CHANNELS = (32, 64, 128, 256)
BLOCKS_PER_STAGE = 2
BATCH_NORM_MOMENTUM = 0.9
"""Keras' own 0.99 needs hundreds of steps before the moving statistics mean anything."""


def small_resnet(*, input_size: int) -> Any:
    """Return a residual network with 2.8 M parameters: float32 (n, size, size, 3) to (n, size / 16, size / 16, 256).

    A stem of stride 2 and four stages of two basic blocks (He et al., CVPR 2016), all but the first of stride 2.

    Args:
        input_size: Side of the input in pixels, at least 16.
    """
    inputs = keras.Input((input_size, input_size, 3))
    outputs = _normalised(inputs, STEM_CHANNELS, "stem", stride=2)
    outputs = keras.layers.ReLU(name="stem_relu")(outputs)
    for stage, channels in enumerate(STAGE_CHANNELS):
        for block in range(BLOCKS_PER_STAGE):
            name = f"stage{stage + 1}_block{block + 1}"
            outputs = _block(outputs, channels, name, stride=2 if stage and not block else 1)
    return keras.Model(inputs, outputs, name="small_resnet")


def _block(inputs: Any, channels: int, name: str, *, stride: int) -> Any:
    outputs = _normalised(inputs, channels, f"{name}_1", stride=stride)
    outputs = keras.layers.ReLU(name=f"{name}_1_relu")(outputs)
    outputs = _normalised(outputs, channels, f"{name}_2", stride=1)
    same = stride == 1 and inputs.shape[-1] == channels
    shortcut = inputs if same else _normalised(inputs, channels, f"{name}_shortcut", stride=stride, size=1)
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([outputs, shortcut]))


def _normalised(inputs: Any, channels: int, name: str, *, stride: int, size: int = 3) -> Any:
    convolution = keras.layers.Conv2D(
        channels, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )
    normalisation = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_bn")
    return normalisation(convolution(inputs))
