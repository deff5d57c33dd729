"""A Keras model as a finished TensorFlow graph: weights frozen in, folded, its precision lowered, ready to run.

A predictor does not call Keras. The model is traced once, its weights are frozen into the graph, what follows a convolution
(batch normalisation, scales, biases) is folded into its weights, the precision is lowered where that was asked for, and the
result runs in a session with next to no graph optimisation. Doing this here takes seconds where TensorFlow's own freezing and
its default optimiser take most of a minute.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.errors import ModelError, as_model_error
from dfd_core.model.card import ModelCard
from dfd_core.model.preprocess import SCALE_STEPS

GRAPH_VERSION = 1
"""To be raised whenever a model's finished graph changes."""

_INPUT = "crops"
_OUTPUT = "raw_outputs"
_MAX_GRAPH_BYTES = (1 << 31) - (64 << 20)  # a protocol buffer holds at most 2 GiB

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Crops, (n, height, width, 3) uint8 RGB → the model's outputs, (n, 1 or 2) float32."""


def finished_graph(model: Any, card: ModelCard, precision: str) -> Any:
    """Return the GraphDef that computes `model` of `preprocess.to_model_input(crops)`.

    Args:
        model: A `keras.Model`.
        card: How it takes its input, and how many outputs it has.
        precision: What its convolutions compute in: `float32`, `bfloat16` or `float16`.

    Raises:
        ModelError: The model does not turn one image into one or two numbers, or is larger than 2 GiB.
    """
    return _rewritten(_traced(model, card), precision)


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
    # Fusing convolution, bias and activation is what pays; the other passes copy the weights for seconds.
    config.graph_options.rewrite_options.optimizers.append("remap")
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    session = tf.compat.v1.Session(graph=graph, config=config)
    run: Run = session.make_callable(f"{_OUTPUT}:0", [f"{_INPUT}:0"])
    return run


# ---- tracing and rewriting -----------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Graph:
    """A graph under construction: nodes in topological order, and constants as arrays beside them.

    Attributes:
        nodes: name → NodeDef; data inputs only, output 0 written as the bare name.
        values: name → array, for constants that are no nodes.
        floats: The tensors of dtype float32.
        output: Name of the model's output, float32. Its input is the uint8 placeholder `_INPUT`.
        library: Functions that nodes call.
        versions: Of the graph format.
    """

    nodes: dict[str, Any]
    values: dict[str, npt.NDArray[Any]]
    floats: set[str]
    output: str
    library: Any
    versions: Any


def _traced(model: Any, card: ModelCard) -> _Graph:
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


def _with_folded_constants(graph: Any, weights: Mapping[str, npt.NDArray[Any]]) -> _Graph:
    """Return `graph` with its weights filled in and every operation on constants alone replaced by its value."""
    operations = [operation for operation in graph.get_operations() if operation.outputs]
    constant = set(weights)
    for operation in operations:
        from_constants = operation.inputs and all(tensor.op.name in constant for tensor in operation.inputs)
        if operation.type == "Const" or (from_constants and not operation.op_def.is_stateful):
            constant.add(operation.name)
    variable = [operation for operation in operations if operation.name not in constant]
    used = {
        _ref(tensor.name): tensor for op in variable for tensor in op.inputs if tensor.op.name in constant
    }
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        operands = {tensor.op.name for op in operations if op.name in constant for tensor in op.inputs}
        feeds = {f"{name}:0": weights[name] for name in operands & weights.keys()}
        computed = session.run({ref: tensor for ref, tensor in used.items() if ref not in weights}, feeds)
    graph_def = graph.as_graph_def()
    return _Graph(
        nodes={op.name: _data_node(op.node_def) for op in variable},
        values={ref: weights[ref] if ref in weights else computed[ref] for ref in used},
        floats={_ref(tensor.name) for op in variable for tensor in op.outputs if tensor.dtype == tf.float32},
        output=graph.outputs[0].op.name,
        library=graph_def.library,
        versions=graph_def.versions,
    )


def _ref(tensor_name: str) -> str:
    return tensor_name.removesuffix(":0")


def _data_node(node: Any) -> Any:
    data = [_ref(name) for name in node.input if not name.startswith("^")]
    del node.input[:]
    node.input.extend(data)
    return node


def _rewritten(graph: _Graph, precision: str) -> Any:
    """Return the GraphDef to run: affine operations folded, precision lowered, dead nodes gone."""
    _skip_identities(graph)
    _fold_affine(graph)
    if precision != "float32":
        _lower_precision(graph, tf.as_dtype(precision))
    return _to_graph_def(graph)


def _skip_identities(graph: _Graph) -> None:
    replaced: dict[str, str] = {}
    for name, node in graph.nodes.items():
        inputs = [replaced.get(ref, ref) for ref in node.input]
        del node.input[:]
        node.input.extend(inputs)
        if node.op in ("Identity", "IdentityN", "StopGradient", "PreventGradient") and name != graph.output:
            replaced |= {_ref(f"{name}:{i}"): ref for i, ref in enumerate(inputs)}


_CHANNEL_AXES: Mapping[str, int] = {"Conv2D": -1, "DepthwiseConv2dNative": -2}
"""For each operation that absorbs what follows: from which axis of its kernel on the sizes make the output channels."""


def _fold_affine(graph: _Graph) -> None:
    """Fold what follows each convolution, as long as it is one number a channel, into its kernel and a bias."""
    users = Counter(ref for node in graph.nodes.values() for ref in node.input)
    user_of = {ref: name for name, node in graph.nodes.items() for ref in node.input}
    for name in list(graph.nodes):
        node = graph.nodes[name]
        kernel = graph.values.get(node.input[1]) if node.op in _CHANNEL_AXES else None
        if kernel is None or _type_of(node) != tf.float32 or node.attr["data_format"].s != b"NHWC":
            continue
        shape = kernel.shape[_CHANNEL_AXES[node.op] :]
        scale, bias = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        last = name
        while last != graph.output and users[last] == 1:
            user = graph.nodes[user_of[last]]
            step = _affine_step(user, last, graph.values, shape)
            if step is None:
                break
            scale, bias, last = scale * step[0], bias * step[0] + step[1], user.name
        if last == name:
            continue
        node.input[1] = f"{name}/folded_kernel"
        graph.values |= {node.input[1]: kernel * scale, f"{name}/folded_bias": bias.reshape(-1)}
        add = graph.nodes[last]
        add.Clear()
        add.name, add.op = last, "BiasAdd"
        add.input.extend([name, f"{name}/folded_bias"])
        add.attr["T"].type = tf.float32.as_datatype_enum
        add.attr["data_format"].s = b"NHWC"


def _affine_step(
    node: Any, previous: str, values: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Return the factor and the offset, one a channel, that `node` applies to `previous`, or None if it is no such."""
    if node.op not in ("Mul", "Add", "AddV2", "Sub", "BiasAdd", "RealDiv"):
        return None
    position = list(node.input).index(previous)
    array = values.get(node.input[1 - position])
    if array is None or array.ndim > 4 or array.size not in (1, int(np.prod(shape))):
        return None
    if array.size > 1 and array.shape[-1] != array.size:
        return None
    channel = np.broadcast_to(array.reshape(-1 if array.size == 1 else shape), shape).astype(np.float32)
    zeros, ones = np.zeros_like(channel), np.ones_like(channel)
    if node.op == "Mul":
        return channel, zeros
    if node.op in ("Add", "AddV2", "BiasAdd"):
        return ones, channel
    if position == 1:  # constant - x, constant / x
        return (-ones, channel) if node.op == "Sub" else None
    return (ones, -channel) if node.op == "Sub" else (ones / channel, zeros)


_LOWERED_BEHIND = frozenset(
    "Add AddV2 AvgPool BiasAdd ConcatV2 Elu LeakyRelu MaxPool Maximum Minimum MirrorPad Mul Pad PadV2 Relu Relu6 "
    "Selu Sigmoid Softplus Sub Tanh".split()
)


def _lower_precision(graph: _Graph, dtype: Any) -> None:
    """Let convolutions and what lies between them compute in `dtype`.

    What comes before the first convolution (the scaling of pixels) and reductions, matrix products and softmax (the
    head) stay in float32, so that an output is no coarser than float32.
    """
    lowered: set[str] = set()
    nodes: dict[str, Any] = {}
    for name, node in graph.nodes.items():
        is_low = _type_of(node) == tf.float32 and (
            node.op in _CHANNEL_AXES
            or (node.op in _LOWERED_BEHIND and any(ref in lowered for ref in node.input))
        )
        for position, ref in enumerate(node.input):
            if ref in graph.values and graph.values[ref].dtype == np.float32 and is_low:
                node.input[position] = f"{ref}/{dtype.name}"
                graph.values[node.input[position]] = graph.values[ref].astype(dtype.as_numpy_dtype)
            elif ref in graph.floats and is_low != (ref in lowered):
                node.input[position] = _cast(
                    nodes, ref, *((tf.float32, dtype) if is_low else (dtype, tf.float32))
                )
        if is_low:
            node.attr["T"].type = dtype.as_datatype_enum
            lowered.add(name)
        nodes[name] = node
    graph.nodes = nodes


def _type_of(node: Any) -> Any:
    return tf.as_dtype(node.attr["T"].type) if "T" in node.attr and node.attr["T"].type else None


def _cast(nodes: dict[str, Any], ref: str, source: Any, target: Any) -> str:
    """Return the name of a node that converts `ref`, added to `nodes` when there is none yet."""
    name = f"{_node_name(ref)}/as_{target.name}"
    if name not in nodes:
        node = tf.compat.v1.NodeDef(name=name, op="Cast", input=[ref])
        node.attr["SrcT"].type = source.as_datatype_enum
        node.attr["DstT"].type = target.as_datatype_enum
        nodes[name] = node
    return name


def _node_name(ref: str) -> str:
    return ref.replace(":", "_")


def _to_graph_def(graph: _Graph) -> Any:
    """Return what the output needs as a GraphDef, the constants as nodes."""
    needed = {graph.output}
    for name, node in reversed(graph.nodes.items()):
        if name in needed:
            needed.update(ref if ref in graph.values else ref.split(":")[0] for ref in node.input)
    size = sum(array.nbytes for ref, array in graph.values.items() if ref in needed)
    if size > _MAX_GRAPH_BYTES:
        raise ModelError(
            f"The model is too large. Expected at most 2 GiB of weights. Received: {size / 2**30:.1f} GiB"
        )
    graph_def = tf.compat.v1.GraphDef(library=graph.library, versions=graph.versions)
    for ref, array in graph.values.items():
        if ref in needed:
            _add_constant(graph_def, _node_name(ref), array)
    for name, node in graph.nodes.items():
        if name in needed:
            inputs = [_node_name(ref) if ref in graph.values else ref for ref in node.input]
            del node.input[:]
            node.input.extend(inputs)
            graph_def.node.append(node)
    output = graph_def.node.add(name=_OUTPUT, op="Identity", input=[graph.output])
    output.attr["T"].type = tf.float32.as_datatype_enum
    return graph_def


def _add_constant(graph_def: Any, name: str, array: npt.NDArray[Any]) -> None:
    node = graph_def.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    node.attr["dtype"].type = tensor.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.ascontiguousarray(array).tobytes()
