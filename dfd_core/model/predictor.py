"""Classifiers: build, save and load them, and turn one into a fast predictor.

Loading never runs code from a model file: `bundle.check_model_file` refuses everything but plain Keras layers before
Keras sees the file. Keras is imported where a model is built or read: a predictor of a kept graph does without, and
starts seconds earlier.
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
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.config import PRECISIONS
from dfd_core.errors import ModelError, as_model_error
from dfd_core.model.bundle import (
    MODEL_FILENAME,
    OWN_BACKBONES,
    ModelCard,
    ModelSource,
    canonical_backbone,
    check_model_file,
    sha256_of,
    write_card,
)
from dfd_core.model.calibration import Calibration
from dfd_core.model.graph import GRAPH_VERSION, Run, compiled, finished_graph
from dfd_core.model.graph_cache import KeptGraph
from dfd_core.model.preprocess import check_crops

DOWNLOAD_TIMEOUT_S = 10.0


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
        with as_model_error(f"The weights in {classifier_file} do not fit {name}"):
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
    with as_model_error(f"Keras cannot load {source.path}"):
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
    _run: Run = dataclasses.field(repr=False)

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
            graph_def = finished_graph(load_model(source), source.card, chosen)
            if kept is not None:
                kept.write(graph_def)
        elif source.path is not None:
            check_model_file(source.path, source.card.sha256)
    return Predictor(source.card, chosen, device, batch_size, compiled(graph_def, num_threads))


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
    with as_model_error(problem), _socket_timeout(DOWNLOAD_TIMEOUT_S):
        return constructor(weights=None if weights is None else os.fspath(weights), **options)


def _build_small_resnet(input_size: int, weights: str | os.PathLike[str] | None) -> Any:
    if weights == "imagenet":
        raise ModelError("small_resnet has no ImageNet weights; pass `--weights none` or `--weights PATH`")
    from dfd_core.model.small_resnet import small_resnet

    body = small_resnet(input_size=input_size)
    if weights is not None:
        with as_model_error(f"The weights in {weights} do not fit small_resnet"):
            body.load_weights(weights)
    return body


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
    versions = (GRAPH_VERSION, tf.__version__, version("keras"))
    text = repr(
        (source.backbone or card.sha256 or sha256_of(str(source.path)), preprocessing, precision, versions)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
