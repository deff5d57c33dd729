"""EfficientNet-Lite0 without its top: the network of the detector that ships."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BATCH_NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """A row of blocks.

    Attributes:
        num_blocks: How many.
        kernel_px: Side of the depthwise kernel.
        stride: Of the first block; the others have 1.
        expansion: How many times wider a block is inside than at its input.
        channels: Channels that leave the stage.
    """

    num_blocks: int
    kernel_px: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(*, input_size: int) -> Any:
    """Return a network of 3.4 M parameters: float32 (n, size, size, 3) to (n, size / 32, size / 32, 1280).

    EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 in place of swish. Pads as
    TensorFlow's SAME does.

    Args:
        input_size: Side of the input in pixels, at least 32.
    """
    inputs = keras.Input((input_size, input_size, 3))
    stem = keras.layers.Conv2D(
        STEM_CHANNELS, 3, 2, "same", use_bias=False, kernel_initializer="he_normal", name="stem_conv"
    )
    outputs = _activated(_normalised(stem(inputs), "stem"), "stem")
    block = 0
    for stage in STAGES:
        for number in range(stage.num_blocks):
            outputs = _block(outputs, stage, f"block{block}", stride=1 if number else stage.stride)
            block += 1
    outputs = _activated(_pointwise(outputs, HEAD_CHANNELS, "head"), "head")
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


def _block(inputs: Any, stage: Stage, name: str, *, stride: int) -> Any:
    """Return an inverted residual block (Sandler et al., CVPR 2018)."""
    outputs = inputs
    if stage.expansion > 1:
        expanded = _pointwise(outputs, inputs.shape[-1] * stage.expansion, f"{name}_expand")
        outputs = _activated(expanded, f"{name}_expand")
    depthwise = keras.layers.DepthwiseConv2D(
        stage.kernel_px,
        stride,
        "same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_dw_conv",
    )
    outputs = _activated(_normalised(depthwise(outputs), f"{name}_dw"), f"{name}_dw")
    outputs = _pointwise(outputs, stage.channels, f"{name}_project")
    if stride == 1 and inputs.shape[-1] == stage.channels:
        outputs = keras.layers.Add(name=f"{name}_add")([inputs, outputs])
    return outputs


def _pointwise(inputs: Any, channels: int, name: str) -> Any:
    convolution = keras.layers.Conv2D(
        channels, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )
    return _normalised(convolution(inputs), name)


def _normalised(inputs: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(inputs)


def _activated(inputs: Any, name: str) -> Any:
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(inputs)
