"""A traced graph made smaller and faster: affine operations folded into convolutions, the precision lowered.

TensorFlow's own optimiser does neither for depthwise convolutions; docs/decisions/0005-inference-graph.md has the figures.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.errors import ModelError

OUTPUT = "raw_outputs"
"""The name of the model's output in a finished graph."""

_MAX_GRAPH_BYTES = (1 << 31) - (64 << 20)  # a protocol buffer holds at most 2 GiB


@dataclasses.dataclass(slots=True)
class Graph:
    """A graph under construction: nodes in topological order, and constants as arrays beside them.

    Attributes:
        nodes: name → NodeDef; data inputs only, output 0 written as the bare name.
        values: name → array, for constants that are no nodes.
        floats: The tensors of dtype float32.
        output: Name of the model's output, float32. Its input is a uint8 placeholder.
        library: Functions that nodes call.
        versions: Of the graph format.
    """

    nodes: dict[str, Any]
    values: dict[str, npt.NDArray[Any]]
    floats: set[str]
    output: str
    library: Any
    versions: Any


def ref_of(tensor_name: str) -> str:
    """Return a tensor's name as nodes refer to it: output 0 is the bare name of its node.

    >>> ref_of("conv:0"), ref_of("split:1")
    ('conv', 'split:1')
    """
    return tensor_name.removesuffix(":0")


def rewritten(graph: Graph, precision: str) -> Any:
    """Return the GraphDef to run: affine operations folded, precision lowered, unused nodes removed.

    Raises:
        ModelError: The weights are too large for a GraphDef.
    """
    _skip_identities(graph)
    _fold_affine(graph)
    if precision != "float32":
        _lower_precision(graph, tf.as_dtype(precision))
    return _to_graph_def(graph)


def _skip_identities(graph: Graph) -> None:
    replaced: dict[str, str] = {}
    for name, node in graph.nodes.items():
        inputs = [replaced.get(ref, ref) for ref in node.input]
        del node.input[:]
        node.input.extend(inputs)
        if node.op in ("Identity", "IdentityN", "StopGradient", "PreventGradient") and name != graph.output:
            replaced |= {ref_of(f"{name}:{i}"): ref for i, ref in enumerate(inputs)}


_CHANNEL_AXES: Mapping[str, int] = {"Conv2D": -1, "DepthwiseConv2dNative": -2}
"""Convolutions, and the first of the kernel's axes that make up the output channels."""


def _fold_affine(graph: Graph) -> None:
    """Fold the factors and offsets by channel that follow a convolution into its kernel and a bias."""
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
    """Return the factor and offset that `node` applies to each channel of `previous`; None if it does something else."""
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


def _lower_precision(graph: Graph, dtype: Any) -> None:
    """Let convolutions and what lies between them compute in `dtype`.

    The scaling of pixels before the first convolution stays in float32. So do the reductions, matrix products and softmax
    of the head, so that an output is no coarser than float32.
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
    """Return the name of the node that converts `ref`; add it to `nodes` if it is not there."""
    name = f"{_node_name(ref)}/as_{target.name}"
    if name not in nodes:
        node = tf.compat.v1.NodeDef(name=name, op="Cast", input=[ref])
        node.attr["SrcT"].type = source.as_datatype_enum
        node.attr["DstT"].type = target.as_datatype_enum
        nodes[name] = node
    return name


def _node_name(ref: str) -> str:
    return ref.replace(":", "_")


def _to_graph_def(graph: Graph) -> Any:
    """Return the nodes and constants that the output depends on as a GraphDef.

    Raises:
        ModelError: They are too large for one.
    """
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
    output = graph_def.node.add(name=OUTPUT, op="Identity", input=[graph.output])
    output.attr["T"].type = tf.float32.as_datatype_enum
    return graph_def


def _add_constant(graph_def: Any, name: str, array: npt.NDArray[Any]) -> None:
    node = graph_def.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    node.attr["dtype"].type = tensor.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.ascontiguousarray(array).tobytes()
