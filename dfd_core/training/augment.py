"""Random changes to training faces: what video archives do to pictures, so that a model does not learn it.

Each face of each epoch has its own random numbers, decided by the seed, the epoch and the face's position: a resumed
run sees what the interrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.errors import RequestError

Crop = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 RGB."""

JPEG_QUALITIES = (30, 95)
BLUR_SIGMAS_PX = (0.3, 1.5)
NOISE_SIGMAS = (1.0, 10.0)
RESCALE_FACTORS = (0.3, 0.9)
BRIGHTNESS_SHIFTS = (-30.0, 30.0)
CONTRAST_FACTORS = (0.75, 1.25)
ERASED_SHARES = (0.02, 0.2)
ERASED_ASPECTS = (0.3, 3.3)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The probability, 0 to 1, of each change to a face, in the order in which they are made.

    Attributes:
        flip: Left and right are exchanged.
        brightness: Brightness moves by up to 30 of 255, contrast by up to a quarter.
        rescale: Scaled down to 0.3 to 0.9 of its side and up again.
        blur: Gaussian, sigma 0.3 to 1.5 pixels.
        noise: Gaussian, sigma 1 to 10 of 255.
        jpeg: JPEG of quality 30 to 95.
        erase: A rectangle of 2 to 20 % of the area becomes noise (random erasing: Zhong et al., AAAI 2020).
    """

    flip: float = 0.5
    brightness: float = 0.3
    rescale: float = 0.2
    blur: float = 0.1
    noise: float = 0.1
    jpeg: float = 0.3
    erase: float = 0.1

    def __post_init__(self) -> None:
        for name, probability in asdict(self).items():
            if not 0 <= probability <= 1:
                raise RequestError(f"Expected a probability of {name} from 0 to 1. Received: {probability}")

    @classmethod
    def none(cls) -> Self:
        """Return the augmentation that changes nothing."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0.0))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the augmentation that `text` names: `default`, `none`, or `NAME=P,…` with all others at 0.

        >>> Augmentation.parse("flip=0.5,jpeg=1").jpeg
        1.0

        Raises:
            RequestError: It names none.
        """
        if text in ("none", "default"):
            return cls() if text == "default" else cls.none()
        names = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            try:
                probability = float(value)
            except ValueError:
                probability = -1.0
            if name not in names or name in given or not 0 <= probability <= 1:
                raise RequestError(
                    f"Expected none, default or NAME=P,… with each of {', '.join(names)} at most once and P from 0 to 1. "
                    f"Received: {text!r}"
                )
            given[name] = probability
        return cls(**{**asdict(cls.none()), **given})

    def __str__(self) -> str:
        named = [f"{name}={probability:g}" for name, probability in asdict(self).items() if probability]
        return ",".join(named) or "none"


def augment(crop: Crop, augmentation: Augmentation, rng: np.random.Generator) -> Crop:
    """Return the face with the changes that chance chooses; `crop` stays as it is.

    Args:
        crop: (height, width, 3) uint8 RGB.
        augmentation: How probable each change is.
        rng: Decides everything.

    Returns:
        uint8 of the same shape.
    """
    changed = crop
    for name, probability in asdict(augmentation).items():
        if rng.random() < probability:
            changed = _CHANGES[name](changed, rng)
    return np.ascontiguousarray(changed, dtype=np.uint8)


def rng_of(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random numbers of one face in one epoch; the same wherever and whenever it is drawn."""
    return np.random.default_rng((seed, epoch, position))


def _flip(crop: Crop, rng: np.random.Generator) -> Crop:
    return crop[:, ::-1]


def _brightness(crop: Crop, rng: np.random.Generator) -> Crop:
    shift, factor = rng.uniform(*BRIGHTNESS_SHIFTS), rng.uniform(*CONTRAST_FACTORS)
    pixels = crop.astype(np.float32)
    return _to_uint8((pixels - pixels.mean()) * factor + pixels.mean() + shift)


def _rescale(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    factor = rng.uniform(*RESCALE_FACTORS)
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    down = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(down, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blur(crop: Crop, rng: np.random.Generator) -> Crop:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), rng.uniform(*BLUR_SIGMAS_PX)), np.uint8)


def _noise(crop: Crop, rng: np.random.Generator) -> Crop:
    sigma = np.float32(rng.uniform(*NOISE_SIGMAS))
    return _to_uint8(crop + sigma * rng.standard_normal(crop.shape, np.float32))


def _jpeg(crop: Crop, rng: np.random.Generator) -> Crop:
    quality = int(rng.integers(JPEG_QUALITIES[0], JPEG_QUALITIES[1] + 1))
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(crop[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded[1], cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _erase(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    area = rng.uniform(*ERASED_SHARES) * height * width
    aspect = np.exp(rng.uniform(*np.log(ERASED_ASPECTS)))
    rows = int(np.clip(round(np.sqrt(area * aspect)), 1, height))
    columns = int(np.clip(round(np.sqrt(area / aspect)), 1, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    erased = crop.copy()
    erased[top : top + rows, left : left + columns] = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    return erased


def _to_uint8(pixels: npt.NDArray[Any]) -> Crop:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


_CHANGES: dict[str, Callable[[Crop, np.random.Generator], Crop]] = {
    "flip": _flip,
    "brightness": _brightness,
    "rescale": _rescale,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "erase": _erase,
}
