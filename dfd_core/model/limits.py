"""What a model file may ask of this machine: weights that it does not hold, outputs of absurd size, memory.

A few hundred bytes of architecture can ask for any amount. Each limit here is far above what the backbones of
`keras.applications` need.
"""

from __future__ import annotations

import contextlib
import math
import resource
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfd_core.errors import ModelError, as_model_error

_WEIGHTS = "model.weights.h5"
_ROOM_BYTES = 16 << 20  # seeds and counters, and weights that a file need not hold
_WIDTHS = {"int8": 1, "uint8": 1, "float16": 2, "bfloat16": 2, "int64": 8, "float64": 8}
_MEMORY_BYTES = 4 << 30
_MEMORY_PER_FILE_BYTE = 16
_MIN_OUTPUT = 1 << 24
_OUTPUT_PER_INPUT = 128


def refuse_missing_weights(config: Mapping[str, Any], path: Path) -> None:
    """Refuse an architecture with more weights than its file holds, before any of them is made.

    Args:
        config: The architecture, checked by `safety.check_model_file`.
        path: Its `.keras` file.

    Raises:
        ModelError: It has more, or Keras cannot build it.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    held = sizes.get(_WEIGHTS, 0)
    wanted = _weights_bytes(config, path)
    if wanted > held + _ROOM_BYTES:
        raise ModelError(
            f"{path} is refused: its layers have {wanted:,} bytes of weights, and the file holds {held:,}"
        )


def _weights_bytes(config: Mapping[str, Any], path: Path) -> int:
    """Return the size of an architecture's weights; in a stateless scope they have shapes and no memory."""
    import keras
    from keras.src.backend.common import global_state

    try:
        with (
            as_model_error(f"Keras cannot load {path}"),
            keras.StatelessScope(initialize_variables=False),
        ):
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None})
            sizes = [
                math.prod(variable.shape) * _WIDTHS.get(variable.dtype, 4) for variable in model.variables
            ]
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])  # the next scope would make them
    return sum(sizes)


def refuse_large_outputs(graph: Any, input_size: int) -> None:
    """Refuse a traced model with an operation whose output for one image is absurdly large.

    Args:
        graph: TensorFlow's, traced for any number of images.
        input_size: Side of an image, pixels.

    Raises:
        ModelError: There is such an operation.
    """
    limit = max(_MIN_OUTPUT, _OUTPUT_PER_INPUT * 3 * input_size**2)
    for operation in graph.get_operations():
        for tensor in operation.outputs:
            shape = tensor.shape.as_list() if tensor.shape.rank else []
            numbers = math.prod(side for side in shape if side is not None)
            if None in shape and numbers > limit:
                raise ModelError(
                    f"The model is refused: a layer makes {numbers:,} numbers of one image. Expected at most {limit:,}"
                )


@contextlib.contextmanager
def limited_memory(file_bytes: int) -> Iterator[None]:
    """Let this process have at most some gigabytes more of address space while the block runs.

    Args:
        file_bytes: Size of the model's file; a large one may have more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space_bytes() + _MEMORY_BYTES + _MEMORY_PER_FILE_BYTE * file_bytes
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
