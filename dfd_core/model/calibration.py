"""Calibration: a monotone map from a face's raw score to the share of such faces that are fake.

It is fitted on validation faces, lives in the bundle's card, and is applied to every face before anything is
aggregated. Only fitting needs scikit-learn and SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from dfd_core.errors import RequestError

Kind = Literal["temperature", "logistic", "isotonic"]
KINDS: tuple[Kind, ...] = ("temperature", "logistic", "isotonic")
TEMPERATURES = (0.05, 20.0)
"""Bounds of the search."""

_MAX_BIAS = 10.0
_CLIP = float(np.finfo(np.float32).eps)  # logits of float32 probabilities end at ±15.9


@dataclass(frozen=True, slots=True)
class Calibration:
    """One fitted map.

    Attributes:
        kind: `temperature`: p = sigmoid(logit(p_raw) / temperature) (Guo et al., ICML 2017). `logistic`:
            p = sigmoid(logit(p_raw) / temperature + bias) (Platt, 1999). `isotonic`: straight lines between the points
            `p_raw`, `p_fake`, flat outside them (Zadrozny and Elkan, KDD 2002).
        temperature: Above 0; above 1 makes scores less extreme. Not for `isotonic`.
        bias: Added to the logit. Only for `logistic`.
        p_raw: Rising, in [0, 1]. Only for `isotonic`.
        p_fake: Not falling, in [0, 1]; as many as `p_raw`.
    """

    kind: Kind
    temperature: float = 1.0
    bias: float = 0.0
    p_raw: tuple[float, ...] = ()
    p_fake: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Expected a calibration of {', '.join(KINDS)}. Received: {self.kind!r}")
        if not (_are_numbers([self.temperature]) and self.temperature > 0):
            raise ValueError(f"Expected a temperature above 0. Received: {self.temperature!r}")
        if not (_are_numbers([self.bias]) and (self.bias == 0 or self.kind == "logistic")):
            raise ValueError(f"Expected a bias for `logistic` only. Received: {self.bias!r}")
        points = (self.p_raw, self.p_fake)
        if self.kind == "isotonic" and not (
            all(_are_numbers(values) for values in points)
            and len(self.p_raw) == len(self.p_fake) >= 1
            and all(0 <= value <= 1 for values in points for value in values)
            and all(low < high for low, high in zip(self.p_raw, self.p_raw[1:], strict=False))
            and all(low <= high for low, high in zip(self.p_fake, self.p_fake[1:], strict=False))
        ):
            raise ValueError(
                "Expected as many p_fake as p_raw, in [0, 1], p_raw rising and p_fake not falling"
            )

    @classmethod
    def from_card(cls, fields: Mapping[str, Any]) -> Self:
        """Return the calibration of a card's field `calibration`; unknown keys are ignored.

        Raises:
            ValueError: The field holds no calibration.

        >>> Calibration.from_card({"kind": "temperature", "temperature": 2.0}).temperature
        2.0
        """
        if fields.get("kind") == "temperature":
            return cls("temperature", temperature=fields.get("temperature", math.nan))
        if fields.get("kind") == "logistic":
            temperature, bias = (fields.get(name, math.nan) for name in ("temperature", "bias"))
            return cls("logistic", temperature=temperature, bias=bias)
        return cls(
            fields.get("kind"),  # type: ignore[arg-type]
            p_raw=tuple(fields.get("p_raw", ())),
            p_fake=tuple(fields.get("p_fake", ())),
        )

    def to_card(self) -> dict[str, Any]:
        """Return what `from_card` takes."""
        if self.kind == "temperature":
            return {"kind": self.kind, "temperature": self.temperature}
        if self.kind == "logistic":
            return {"kind": self.kind, "temperature": self.temperature, "bias": self.bias}
        return {"kind": self.kind, "p_raw": list(self.p_raw), "p_fake": list(self.p_fake)}

    def apply(self, p_raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return calibrated scores.

        Args:
            p_raw: (n,) in [0, 1], or NaN.

        Returns:
            float32 (n,), in [0, 1]; NaN stays NaN.

        >>> Calibration("temperature", temperature=2.0).apply(np.float32([0.5, 0.9])).round(3).tolist()
        [0.5, 0.75]
        """
        raw = p_raw.astype(np.float64)
        if self.kind == "isotonic":
            return np.interp(raw, self.p_raw, self.p_fake).astype(np.float32)
        return _sigmoid(_logit(raw) / self.temperature + self.bias).astype(np.float32)

    def invert(self, p_fake: float) -> float:
        """Return the lowest raw score that becomes at least `p_fake`; 1 where none does.

        >>> round(Calibration("temperature", temperature=2.0).invert(0.75), 3)
        0.9
        """
        if self.kind != "isotonic":
            return float(_sigmoid((_logit(np.array([p_fake])) - self.bias) * self.temperature)[0])
        if p_fake <= self.p_fake[0]:
            return 0.0
        after = int(np.searchsorted(self.p_fake, p_fake, side="left"))
        if after == len(self.p_fake):
            return 1.0
        low, high = self.p_fake[after - 1], self.p_fake[after]
        part = (p_fake - low) / (high - low)
        return self.p_raw[after - 1] + part * (self.p_raw[after] - self.p_raw[after - 1])


def fit_calibration(
    kind: Kind, *, is_fake: npt.ArrayLike, p_raw: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> Calibration:
    """Return the calibration of `kind` with the smallest weighted loss: log loss, or squared error for `isotonic`.

    Args:
        kind: Which map.
        is_fake: (items,) bool.
        p_raw: (items,) in [0, 1].
        weight: (items,) at least 0; None for ones.

    Raises:
        RequestError: One class is missing.
    """
    labels, raw = np.asarray(is_fake, np.bool_), np.asarray(p_raw, np.float64)
    weights = np.ones(len(labels)) if weight is None else np.asarray(weight, np.float64)
    if not (labels.any() and not labels.all()):
        raise RequestError(
            f"Expected real and fake items to fit a calibration. Received: {len(labels)} of one class"
        )
    if kind == "isotonic":
        return _fit_isotonic(labels, raw, weights)
    if kind == "logistic":
        return _fit_logistic(labels, raw, weights)
    return Calibration("temperature", temperature=_fit_temperature(labels, raw, weights))


def _fit_temperature(
    labels: npt.NDArray[np.bool_], raw: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> float:
    from scipy.optimize import minimize_scalar

    signed = np.where(labels, _logit(raw), -_logit(raw))

    def log_loss(log_temperature: float) -> float:
        return float(np.average(np.logaddexp(0, -signed / math.exp(log_temperature)), weights=weights))

    bounds = [math.log(bound) for bound in TEMPERATURES]
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def _fit_logistic(
    labels: npt.NDArray[np.bool_], raw: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> Calibration:
    from scipy.optimize import minimize

    logits, signs = _logit(raw), np.where(labels, 1.0, -1.0)

    def log_loss(values: npt.NDArray[np.float64]) -> float:
        shifted = logits / math.exp(values[0]) + values[1]
        return float(np.average(np.logaddexp(0, -signs * shifted), weights=weights))

    edges = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    found = minimize(log_loss, np.zeros(2), bounds=[edges, (-_MAX_BIAS, _MAX_BIAS)], method="L-BFGS-B")
    return Calibration("logistic", temperature=math.exp(float(found.x[0])), bias=float(found.x[1]))


def _fit_isotonic(
    labels: npt.NDArray[np.bool_], raw: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    edge = 0.5 / len(labels)  # no score of few items becomes exactly 0 or 1
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    model.fit(raw, labels.astype(np.float64), sample_weight=weights)
    points = np.unique(np.clip(model.X_thresholds_, 0, 1))
    values = np.maximum.accumulate(np.clip(model.predict(points), 0, 1))
    return Calibration("isotonic", p_raw=tuple(points.tolist()), p_fake=tuple(values.tolist()))


def _logit(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-z)), np.float64)


def _are_numbers(values: Sequence[object]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )
