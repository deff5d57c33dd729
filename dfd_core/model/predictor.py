"""A predictor: a model as a finished graph, ready to score crops."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.config import PRECISIONS
from dfd_core.errors import ModelError
from dfd_core.model.build import load_model
from dfd_core.model.calibration import Calibration
from dfd_core.model.card import ModelCard
from dfd_core.model.device import cpu_has_bfloat16, prepare_tensorflow
from dfd_core.model.graph import GRAPH_VERSION, Run, compiled, finished_graph
from dfd_core.model.graph_cache import KeptGraph
from dfd_core.model.limits import limited_memory
from dfd_core.model.preprocess import check_crops
from dfd_core.model.safety import check_model_file, sha256_of
from dfd_core.model.source import ModelSource


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
        source: What `source.resolve_model` returned.
        precision: `auto` is float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32. Any other
            is honoured wherever it runs, fast or not.
        batch_size: The most crops that one run of the model takes.
        num_threads: CPU threads for this process; None for one a core. It must be set by the first use of
            TensorFlow in the process.
        cache_dir: Where to keep finished graphs (half or all of the model's size each, the last few of them), which
            saves building the model next time; None to keep none. Of several processes that want the same graph
            one builds it and the others wait. Whoever can write there decides what runs here: see
            `dfd.graph_folder`.

    Raises:
        ModelError: The model cannot be loaded, or does not turn one image into one or two numbers.
    """
    if precision not in PRECISIONS:
        raise ModelError(
            f"Unknown precision. Expected one of {', '.join(PRECISIONS)}. Received: {precision!r}"
        )
    if batch_size < 1:
        raise ValueError(f"Expected a batch_size of at least 1. Received: {batch_size}")
    device = prepare_tensorflow(num_threads)
    chosen = _auto_precision(device) if precision == "auto" else precision
    kept = None if cache_dir is None else KeptGraph(cache_dir, _cache_key(source, chosen))
    with contextlib.nullcontext() if kept is None else kept.locked():
        graph_def = None if kept is None else kept.read()
        if graph_def is None:
            with _limited(source, device):
                graph_def = finished_graph(load_model(source), source.card, chosen)
            if kept is not None:
                kept.write(graph_def)
        elif source.path is not None:
            check_model_file(source.path, source.card.sha256)
    return Predictor(source.card, chosen, device, batch_size, compiled(graph_def, num_threads))


def _limited(source: ModelSource, device: str) -> contextlib.AbstractContextManager[None]:
    """Limit the memory for a model from a file; not on a GPU, whose driver takes hundreds of gigabytes of address space."""
    if source.path is None or device == "gpu":
        return contextlib.nullcontext()
    return limited_memory(source.path.stat().st_size)


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


def _probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the sigmoid of one column, or the softmax of two, which is the sigmoid of their difference."""
    difference = logits[:, 0] if logits.shape[1] == 1 else logits[:, 0] - logits[:, 1]
    first = np.exp(-np.logaddexp(0, -difference.astype(np.float64))).astype(np.float32)
    return np.stack([first] if logits.shape[1] == 1 else [first, 1 - first], axis=1)


def _auto_precision(device: str) -> str:
    if device == "gpu":
        return "float16"
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def _cache_key(source: ModelSource, precision: str) -> str:
    """Return what decides a finished graph, hashed."""
    card = source.card
    preprocessing = (card.input_size, card.color, card.scale, card.mean, card.std, len(card.classes))
    versions = (GRAPH_VERSION, tf.__version__, version("keras"))
    text = repr(
        (source.backbone or card.sha256 or sha256_of(str(source.path)), preprocessing, precision, versions)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
