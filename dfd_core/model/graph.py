"""A Keras model as a finished TensorFlow graph that runs without Keras.

The model is traced once and its weights become constants. `graph_rewrite` then folds what follows a convolution into its
weights and lowers the precision. The result runs in a session with one pass of TensorFlow's optimiser.
docs/decisions/0005-inference-graph.md compares this with TensorFlow's own freezing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.errors import ModelError, as_model_error
from dfd_core.model.card import ModelCard
from dfd_core.model.graph_rewrite import OUTPUT, Graph, ref_of, rewritten
from dfd_core.model.limits import refuse_large_outputs
from dfd_core.model.preprocess import SCALE_STEPS

GRAPH_VERSION = 1
"""Part of the key of kept graphs; raise it when the finished graph of a model changes."""

_INPUT = "crops"

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Crops, (n, height, width, 3) uint8 RGB → the model's outputs, (n, 1 or 2) float32."""


def finished_graph(model: Any, card: ModelCard, precision: str) -> Any:
    """Return the GraphDef that computes `model` of `preprocess.to_model_input(crops)`.

    Args:
        model: A `keras.Model`.
        card: Preprocessing and classes.
        precision: What the convolutions compute in: `float32`, `bfloat16` or `float16`.

    Raises:
        ModelError: The model does not turn one image into one or two numbers, or is larger than 2 GiB.
    """
    with as_model_error("The model cannot be made into a graph"):
        return rewritten(_traced(model, card), precision)


def compiled(graph_def: Any, num_threads: int | None) -> Run:
    """Return a function from crops to the outputs of `graph_def`, which runs in a session of its own.

    Args:
        graph_def: What `finished_graph` returned.
        num_threads: CPU threads for this process; None for one a core. The first session of a process decides.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=num_threads or 0, inter_op_parallelism_threads=num_threads or 0
    )
    config.gpu_options.allow_growth = True
    # This pass fuses convolution, bias and activation. The others copy the weights for seconds and gain nothing here.
    config.graph_options.rewrite_options.optimizers.append("remap")
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    session = tf.compat.v1.Session(graph=graph, config=config)
    run: Run = session.make_callable(f"{OUTPUT}:0", [f"{_INPUT}:0"])
    return run


def _traced(model: Any, card: ModelCard) -> Graph:
    """Return the graph from uint8 RGB crops to the model's float32 outputs (n, 1 or 2), weights as constants."""
    size = card.input_size
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    num_trainable = len(model.trainable_variables)

    def forward(crops: Any, weights: Sequence[Any]) -> Any:
        images = _to_model_input(crops, card)
        outputs, _ = model.stateless_call(
            weights[:num_trainable], weights[num_trainable:], images, training=False
        )
        return tf.identity(tf.cast(_only_output(outputs, card), tf.float32))

    specs = [
        tf.TensorSpec(variable.shape, variable.dtype, name=f"w{i}") for i, variable in enumerate(variables)
    ]
    crops = tf.TensorSpec((None, size, size, 3), tf.uint8, name=_INPUT)
    with as_model_error(f"The model cannot be run on {size}×{size} RGB images"):
        function = tf.function(forward, autograph=False).get_concrete_function(crops, specs)
    refuse_large_outputs(function.graph, size)
    arrays = [np.asarray(value) for value in (*variables, *function.captured_inputs)]
    placeholders = [tensor.op.name for tensor in function.graph.inputs[1:]]
    return _with_folded_constants(function.graph, dict(zip(placeholders, arrays, strict=True)))


def _to_model_input(crops: Any, card: ModelCard) -> Any:
    """Return `preprocess.to_model_input` of a tensor, step by step the same."""
    divisor, shift = SCALE_STEPS[card.scale]
    pixels = tf.cast(tf.reverse(crops, [-1]) if card.color == "bgr" else crops, tf.float32)
    pixels = pixels / divisor - shift
    pixels = pixels if card.mean is None else pixels - tf.constant(card.mean, tf.float32)
    return pixels if card.std is None else pixels / tf.constant(card.std, tf.float32)


def _only_output(outputs: Any, card: ModelCard) -> Any:
    """Return the outputs as (n, 1) or (n, 2), or raise ModelError."""
    outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        outputs = outputs[0]
    shape = None if isinstance(outputs, (list, tuple)) else outputs.shape[1:]
    counts = (1, 2) if len(card.classes) == 2 else (1,)
    if shape is None or shape.num_elements() not in counts:
        expected = " or ".join(map(str, counts))
        received = f"{len(outputs)} outputs" if shape is None else f"{tuple(shape)}"
        raise ModelError(
            f"The model's output does not fit the classes {list(card.classes)}. Expected {expected} numbers for each "
            f"image. Received: {received}"
        )
    return tf.reshape(outputs, (-1, shape.num_elements()))


def _with_folded_constants(graph: Any, weights: Mapping[str, npt.NDArray[Any]]) -> Graph:
    """Return `graph` with its weights filled in and every operation on constants alone replaced by its value."""
    operations = [operation for operation in graph.get_operations() if operation.outputs]
    constant = set(weights)
    for operation in operations:
        from_constants = operation.inputs and all(tensor.op.name in constant for tensor in operation.inputs)
        if operation.type == "Const" or (from_constants and not operation.op_def.is_stateful):
            constant.add(operation.name)
    variable = [operation for operation in operations if operation.name not in constant]
    used = {
        ref_of(tensor.name): tensor for op in variable for tensor in op.inputs if tensor.op.name in constant
    }
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        operands = {tensor.op.name for op in operations if op.name in constant for tensor in op.inputs}
        feeds = {f"{name}:0": weights[name] for name in operands & weights.keys()}
        computed = session.run({ref: tensor for ref, tensor in used.items() if ref not in weights}, feeds)
    graph_def = graph.as_graph_def()
    return Graph(
        nodes={op.name: _data_node(op.node_def) for op in variable},
        values={ref: weights[ref] if ref in weights else computed[ref] for ref in used},
        floats={
            ref_of(tensor.name) for op in variable for tensor in op.outputs if tensor.dtype == tf.float32
        },
        output=graph.outputs[0].op.name,
        library=graph_def.library,
        versions=graph_def.versions,
    )


def _data_node(node: Any) -> Any:
    data = [ref_of(name) for name in node.input if not name.startswith("^")]
    del node.input[:]
    node.input.extend(data)
    return node
