"""The settings of a training as one validated value. It needs no model runtime."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from dfd_core.config import PRECISIONS
from dfd_core.errors import RequestError
from dfd_core.evaluation.thresholds import ThresholdRule
from dfd_core.model import calibration
from dfd_core.model.backbones import canonical_backbone
from dfd_core.training.augment import Augmentation
from dfd_core.training.sampling import parse_weights

ClassBalance = Literal["none", "weights"]
Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["plateau", "cosine"]
CALIBRATIONS = (*calibration.KINDS, "none")
HISTORY_FILENAME = "history.csv"
LOGS_FOLDER = "logs"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything but the data that decides what a training learns. The defaults are the seed report's.

    Attributes:
        backbone: A name of `backbones.BACKBONES` or `backbones.OWN_BACKBONES`.
        input_size: Side of the model's input, pixels.
        weights: `imagenet`, `none`, or a path.
        freeze_until: Name of the last layer of the backbone that keeps its weights; None trains all.
        batch_norm_momentum: Of every batch normalisation; None leaves the backbone's own.
        epochs: The most epochs; early stopping may end sooner.
        batch_size: Faces in a step, over all workers.
        learning_rate: At the start.
        optimizer: `adam` and `adamw` as Keras has them, `sgd` without momentum.
        weight_decay: Decoupled, of kernels only, not of biases and norms; None leaves the optimizer's own.
        average: Most momentum of the moving average of the weights, which is what validates and is kept; None: no average.
        label_smoothing: Share of each target that goes evenly to both classes.
        patience: Epochs without a better `val_loss` after which it stops; the best epoch's weights are kept.
        lr_schedule: `plateau` follows `val_loss`; `cosine` warms up and then falls to the floor over all epochs.
        lr_factor: What the learning rate is multiplied with after `lr_patience` epochs without a better `val_loss`.
        lr_patience: See `lr_factor`.
        min_learning_rate: The floor.
        validation: Share of the videos that validate, in (0, 1).
        threshold: The rule for the bundle's threshold, as `thresholds.ThresholdRule` reads it.
        uncertain_rate: Share of the validation's real videos that may be called fake, and of its fake ones real: it sets two
            thresholds, between which the verdict is uncertain. None sets one threshold.
        calibration: `temperature`, `isotonic` or `none`.
        class_balance: `weights` weighs each face by the inverse of its label's share.
        dataset_weights: Share of an epoch that each dataset gets, as `sampling.parse_weights` reads it; empty: each face once.
        augmentation: Of training faces.
        precision: What the model computes in while it trains; its file is float32.
        num_workers: Processes that train; they share the batch.
        shuffle_faces: Size of the buffer that each worker draws faces from.
        seed: Decides the weights, the split, the order and the augmentation.
    """

    backbone: str = "inception_resnet_v2"
    input_size: int = 128
    weights: str = "imagenet"
    freeze_until: str | None = None
    batch_norm_momentum: float | None = None
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-5
    optimizer: Optimizer = "adam"
    weight_decay: float | None = None
    average: float | None = None
    label_smoothing: float = 0.0
    patience: int = 5
    lr_schedule: Schedule = "plateau"
    lr_factor: float = 0.2
    lr_patience: int = 2
    min_learning_rate: float = 1e-6
    validation: float = 0.2
    threshold: str = "eer"
    uncertain_rate: float | None = None
    calibration: str = "temperature"
    class_balance: ClassBalance = "none"
    dataset_weights: str = ""
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: str = "auto"
    num_workers: int = 1
    shuffle_faces: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", canonical_backbone(self.backbone))
        ThresholdRule.parse(self.threshold)
        parse_weights(self.dataset_weights)
        blends = self.augmentation.self_blend
        _check("--augment self_blend", blends < 1, "below 1, because some faces must stay real", blends)
        momentum = self.batch_norm_momentum
        _check("--input-size", 8 <= self.input_size <= 2048, "pixels from 8 to 2048", self.input_size)
        _check("--epochs", self.epochs >= 1, "1 or more", self.epochs)
        _check("--workers", self.num_workers >= 1, "1 or more", self.num_workers)
        _check("--batch-size", self.batch_size >= 1, "1 or more", self.batch_size)
        per_worker = f"a multiple of the {self.num_workers} workers"
        _check("--batch-size", self.batch_size % self.num_workers == 0, per_worker, self.batch_size)
        _check("--learning-rate", _above_zero(self.learning_rate), "above 0", self.learning_rate)
        _check("--min-learning-rate", self.min_learning_rate >= 0, "0 or more", self.min_learning_rate)
        _check("--patience", self.patience >= 0, "0 or more", self.patience)
        _check("--lr-patience", self.lr_patience >= 0, "0 or more", self.lr_patience)
        _check("--lr-factor", 0 < self.lr_factor < 1, "between 0 and 1", self.lr_factor)
        decay, average, smoothing = self.weight_decay, self.average, self.label_smoothing
        _check("--weight-decay", decay is None or 0 <= decay < 1, "from 0 to below 1", decay)
        _check("--average", average is None or 0 <= average < 1, "from 0 to below 1", average)
        _check("--label-smoothing", 0 <= smoothing < 1, "from 0 to below 1", smoothing)
        uncertain = self.uncertain_rate
        _check("--uncertain-rate", uncertain is None or 0 <= uncertain < 1, "from 0 to below 1", uncertain)
        _check("--validation", 0 < self.validation < 1, "between 0 and 1", self.validation)
        _check("--batch-norm-momentum", momentum is None or 0 <= momentum < 1, "from 0 to below 1", momentum)
        _check("--shuffle-faces", self.shuffle_faces >= 1, "1 or more", self.shuffle_faces)
        _check("--seed", self.seed >= 0, "0 or more", self.seed)
        for name, values in (
            ("optimizer", get_args(Optimizer)),
            ("lr_schedule", get_args(Schedule)),
            ("class_balance", get_args(ClassBalance)),
            ("calibration", CALIBRATIONS),
            ("precision", PRECISIONS),
        ):
            _check(
                f"--{name.replace('_', '-')}",
                getattr(self, name) in values,
                " or ".join(values),
                getattr(self, name),
            )

    @property
    def batch_per_worker(self) -> int:
        """Faces in a step of each worker."""
        return self.batch_size // self.num_workers

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "augmentation": str(self.augmentation)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the settings of what `to_json` returned."""
        return cls(**{**values, "augmentation": Augmentation.parse(values["augmentation"])})


def _above_zero(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _check(flag: str, ok: bool, expected: str, received: object) -> None:
    if not ok:
        raise RequestError(f"Expected {flag} {expected}. Received: {received}")
