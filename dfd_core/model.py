"""Classifiers: build, save and load them, and turn one into a fast predictor. The only importer of TensorFlow.

Loading never runs code from a model file: `bundle.check_model_file` refuses everything but plain Keras layers before
Keras sees the file. Keras is imported where a model is built or read: a predictor of a kept graph does without, and
starts seconds earlier.

A predictor does not call Keras. It traces the model once, freezes its weights into the graph, folds what follows a
convolution (batch normalisation, scales, biases) into its weights, lowers the precision where that was asked for,
and runs the result in a session with next to no graph optimisation. Doing this here takes seconds where TensorFlow's
own freezing and its default optimiser take most of a minute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import platform
import random
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.bundle import (
    MODEL_FILENAME,
    OWN_BACKBONES,
    ModelCard,
    ModelSource,
    canonical_backbone,
    check_model_file,
    sha256_of,
    write_card,
)
from dfd_core.calibration import Calibration
from dfd_core.config import PRECISIONS
from dfd_core.errors import ModelError
from dfd_core.graph_cache import KeptGraph
from dfd_core.preprocess import SCALE_STEPS, check_crops

DOWNLOAD_TIMEOUT_S = 10.0

_INPUT = "crops"
_OUTPUT = "raw_outputs"
_GRAPH_VERSION = 1  # raise it whenever a model's finished graph changes
_MAX_GRAPH_BYTES = (1 << 31) - (64 << 20)  # a protocol buffer holds at most 2 GiB


def build_classifier(
    backbone: str = "inception_resnet_v2",
    *,
    input_size: int = 128,
    weights: str | os.PathLike[str] | None = "imagenet",
    seed: int = 0,
) -> Any:
    """Return the seed report's classifier: a backbone, global average pooling and a softmax over fake and real.

    Its input is what `preprocess.to_model_input` makes of crops with the scale `bundle.default_scale(backbone)`.

    Args:
        backbone: A name of `bundle.BACKBONES` or `bundle.OWN_BACKBONES`.
        input_size: Side of the input, in pixels.
        weights: `imagenet` (downloaded by Keras, or found in its cache), None for random ones, a bundle or `.keras`
            file of this very classifier, or an `.h5` file of the backbone without its top.
        seed: Decides every random weight: the same seed gives the same weights in every process.

    Returns:
        A `keras.Model`: float32 (n, input_size, input_size, 3) to float32 (n, 2), probabilities of fake and real.

    Raises:
        ModelError: The backbone is unknown, does not take this size, or the weights cannot be had or do not fit.
    """
    import keras

    name = canonical_backbone(backbone)
    file = None if weights is None or weights == "imagenet" else _weights_file(weights)
    classifier_file = file if file is not None and file.suffix == ".keras" else None
    with _seeded(seed):
        body = _build_backbone(name, input_size, None if classifier_file else file or weights)
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
        model = keras.Sequential([keras.Input((input_size, input_size, 3)), body, *head])
    if classifier_file:
        with _as_model_error(f"The weights in {classifier_file} do not fit {name}"):
            model.load_weights(classifier_file)
    return model


def save_bundle(model: Any, card: ModelCard, folder: str | os.PathLike[str]) -> ModelCard:
    """Write `model.keras` and `card.json` into `folder` and return the card with its sha256 and versions.

    Both are written beside and renamed. A reader sees the old bundle or the new one or, for an instant, a model
    whose sha256 is not the card's, which `bundle.resolve_model` refuses. A compiled model takes its optimizer's
    state along, which scoring has no use for.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as beside:
        written = Path(beside) / MODEL_FILENAME
        model.save(written)
        versions = {
            "keras": version("keras"),
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        }
        complete = dataclasses.replace(
            card, sha256=sha256_of(written), versions={**versions, **card.versions}
        )
        os.replace(written, target / MODEL_FILENAME)
    write_card(complete, target)
    return complete


def load_model(source: ModelSource) -> Any:
    """Return the `keras.Model` of `source`, not compiled.

    Raises:
        ModelError: The file changed since it was resolved, could run code, or is nothing that Keras can load.
    """
    if source.backbone is not None:
        return build_classifier(source.backbone, input_size=source.card.input_size, weights=None)
    import keras

    assert source.path is not None
    check_model_file(source.path, source.card.sha256)
    with _as_model_error(f"Keras cannot load {source.path}"):
        return keras.saving.load_model(source.path, compile=False, safe_mode=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Predictor:
    """A model ready to score crops: call it.

    Attributes:
        card: The bundle's card.
        precision: What the convolutions really compute in: `float32`, `bfloat16` or `float16`.
        device: `cpu` or `gpu`.
        batch_size: The most crops that one run of the model takes.
    """

    card: ModelCard
    precision: str
    device: str
    batch_size: int
    _run: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]] = dataclasses.field(repr=False)

    def __call__(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return how likely each crop is fake, calibrated where the card has a calibration.

        Args:
            crops: uint8 (n, card.input_size, card.input_size, 3), RGB. n may be anything, 0 too.

        Returns:
            float32 (n,), in [0, 1], higher is more likely fake; NaN where the model returns no number.

        Raises:
            ModelError: The model's output is no probability, though the card says so.
        """
        check_crops(crops, self.card.input_size)
        starts = range(0, len(crops), self.batch_size)
        parts = [self._run_padded(crops[start : start + self.batch_size]) for start in starts]
        if not parts:
            return np.zeros(0, np.float32)
        p_raw = p_fake_of(np.concatenate(parts), self.card)
        calibration = self.card.calibration
        return p_raw if calibration is None else Calibration.from_card(calibration).apply(p_raw)

    def _run_padded(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        padding = padded_count(len(crops), self.batch_size) - len(crops)
        padded = np.pad(crops, ((0, padding), (0, 0), (0, 0), (0, 0))) if padding else crops
        return self._run(padded)[: len(crops)]


def load_predictor(
    source: ModelSource,
    *,
    precision: str = "auto",
    batch_size: int = 64,
    num_threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Predictor:
    """Return a predictor of `source`: the numbers of calling the model on `to_model_input(crops)`, calibrated.

    Args:
        source: What `bundle.resolve_model` returned.
        precision: `auto` is float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32. Any other
            is honoured wherever it runs, fast or not.
        batch_size: The most crops that one run of the model takes.
        num_threads: CPU threads for this process; None for one a core. It must be set by the first use of
            TensorFlow in the process.
        cache_dir: Where to keep finished graphs (half or all of the model's size each, the last few of them), which
            saves building the model next time; None to keep none. Of several processes that want the same graph
            one builds it and the others wait. Whoever can write there decides what runs here: see
            `graph_cache.private_folder`.

    Raises:
        ModelError: The model cannot be loaded, or does not turn one image into one or two numbers.
    """
    if precision not in PRECISIONS:
        raise ModelError(
            f"Unknown precision. Expected one of {', '.join(PRECISIONS)}. Received: {precision!r}"
        )
    if batch_size < 1:
        raise ValueError(f"Expected a batch_size of at least 1. Received: {batch_size}")
    device = _prepare_device(num_threads)
    chosen = _auto_precision(device) if precision == "auto" else precision
    kept = None if cache_dir is None else KeptGraph(cache_dir, _cache_key(source, chosen))
    with contextlib.nullcontext() if kept is None else kept.mine_alone():
        graph_def = None if kept is None else kept.read()
        if graph_def is None:
            graph_def = _rewritten(_traced(load_model(source), source.card), chosen)
            if kept is not None:
                kept.write(graph_def)
        elif source.path is not None:
            check_model_file(source.path, source.card.sha256)
    return Predictor(source.card, chosen, device, batch_size, _compiled(graph_def, num_threads))


def p_fake_of(outputs: npt.NDArray[np.float32], card: ModelCard) -> npt.NDArray[np.float32]:
    """Return the probability of fake that a model's raw outputs mean.

    Args:
        outputs: float32 (n, 1) or (n, 2), as the card's `classes` and `output` describe them.
        card: The bundle's card.

    Returns:
        float32 (n,), in [0, 1]; NaN where the outputs are not finite.

    Raises:
        ModelError: The outputs are no probabilities where the card says so.

    Example:
        >>> p_fake_of(np.float32([[0.25]]), ModelCard("m", classes=("fake", "real"))).tolist()
        [0.75]
        >>> p_fake_of(np.float32([[0.25, 0.75]]), ModelCard("m")).tolist()
        [0.25]
    """
    finite = np.all(np.isfinite(outputs), axis=1)
    outputs = np.where(finite[:, None], outputs, 0)
    if card.output == "logit":
        outputs = _probabilities(outputs)
    if outputs.size and not (outputs.min() >= -1e-3 and outputs.max() <= 1 + 1e-3):
        raise ModelError(
            "The model's output is no probability: Expected values in [0, 1] (for logits, set `output` in card.json "
            f'to "logit"). Received: {outputs.min():.4g} to {outputs.max():.4g}'
        )
    if outputs.shape[1] == 2:
        p_fake = outputs[:, card.classes.index("fake")]
    else:  # Keras' binary convention: a single value is the probability of the last class.
        p_fake = outputs[:, 0] if card.classes[-1] == "fake" else 1 - outputs[:, 0]
    return np.where(finite, np.clip(p_fake, 0, 1), np.nan).astype(np.float32)


def padded_count(count: int, batch_size: int) -> int:
    """Return the batch that `count` crops run in: few distinct sizes, and little padding.

    >>> [padded_count(count, 64) for count in (1, 3, 7, 9, 37, 64)]
    [1, 4, 8, 16, 40, 64]
    """
    step = max(1, batch_size // 8)
    if count < step:
        return min(1 << (count - 1).bit_length(), step)
    return min(-(-count // step) * step, batch_size)


# ---- building -------------------------------------------------------------------------------------------------------


def _weights_file(weights: str | os.PathLike[str]) -> Path:
    path = Path(weights)
    path = path / MODEL_FILENAME if path.is_dir() else path
    if not path.is_file() or path.suffix not in (".keras", ".h5"):
        raise ModelError(
            f"Unusable weights. Expected imagenet, none, or a bundle, .keras or .h5 file. Received: {weights}"
        )
    if path.suffix == ".keras":
        check_model_file(path)
    return path


def _build_backbone(name: str, input_size: int, weights: str | os.PathLike[str] | None) -> Any:
    if name in OWN_BACKBONES:
        return _build_small_resnet(input_size, weights)
    import keras

    constructors = {
        key.lower(): value for key, value in vars(keras.applications).items() if inspect.isfunction(value)
    }
    constructor = constructors[name.replace("_", "")]
    options: dict[str, Any] = {"include_top": False, "input_shape": (input_size, input_size, 3)}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False
    problem = f"keras.applications cannot build {name} for {input_size} pixels"
    if weights == "imagenet":
        problem = f"The ImageNet weights of {name} cannot be had; pass `--weights none` or `--weights PATH`"
    elif weights is not None:
        problem = f"The weights in {weights} do not fit {name}"
    with _as_model_error(problem), _socket_timeout(DOWNLOAD_TIMEOUT_S):
        return constructor(weights=None if weights is None else os.fspath(weights), **options)


def _build_small_resnet(input_size: int, weights: str | os.PathLike[str] | None) -> Any:
    if weights == "imagenet":
        raise ModelError("small_resnet has no ImageNet weights; pass `--weights none` or `--weights PATH`")
    from dfd_core.small_resnet import small_resnet

    body = small_resnet(input_size=input_size)
    if weights is not None:
        with _as_model_error(f"The weights in {weights} do not fit small_resnet"):
            body.load_weights(weights)
    return body


@contextlib.contextmanager
def _as_model_error(problem: str) -> Iterator[None]:
    """Turn whatever Keras raises into one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"{problem}: {(lines or [type(error).__name__])[0][:300]}") from error


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws the seed of each initialiser from Python's global generator: fix it, then put it back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _socket_timeout(timeout_s: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# ---- predicting -----------------------------------------------------------------------------------------------------


def _probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the sigmoid of one column, or the softmax of two, which is the sigmoid of their difference."""
    difference = logits[:, 0] if logits.shape[1] == 1 else logits[:, 0] - logits[:, 1]
    first = np.exp(-np.logaddexp(0, -difference.astype(np.float64))).astype(np.float32)
    return np.stack([first] if logits.shape[1] == 1 else [first, 1 - first], axis=1)


def _prepare_device(num_threads: int | None) -> str:
    """Set what must be set before TensorFlow's first use in the process, and return `cpu` or `gpu`."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # in use already, by whoever chose otherwise
            tf.config.experimental.set_memory_growth(gpu, True)
    if num_threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != num_threads:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    return "gpu" if gpus else "cpu"


def _auto_precision(device: str) -> str:
    if device == "gpu":
        return "float16"
    try:
        cpu_info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in cpu_info or "amx_bf16" in cpu_info else "float32"


def _cache_key(source: ModelSource, precision: str) -> str:
    """Return what decides a finished graph, hashed."""
    card = source.card
    preprocessing = (card.input_size, card.color, card.scale, card.mean, card.std, len(card.classes))
    versions = (_GRAPH_VERSION, tf.__version__, version("keras"))
    text = repr(
        (source.backbone or card.sha256 or sha256_of(str(source.path)), preprocessing, precision, versions)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
    with _as_model_error(f"The model cannot be run on {size}×{size} RGB images"):
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


def _compiled(graph_def: Any, num_threads: int | None) -> Any:
    """Return a function from uint8 crops to the float32 outputs of `graph_def`, run in a session of its own."""
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
    return session.make_callable(f"{_OUTPUT}:0", [f"{_INPUT}:0"])
