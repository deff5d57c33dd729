"""Random changes to training faces, so that a model does not learn what video archives do to pictures.

The random numbers of a face depend on the seed, the epoch and the face's position. A resumed run therefore sees the same
faces as an undisturbed one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np

from dfd_core.errors import RequestError
from dfd_core.training.changes import CHANGES, Crop
from dfd_core.training.self_blend import Landmarks, self_blended


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The probability, 0 to 1, of each change to a face.

    Self-blending comes first, then what `CHANGES` lists, in its order.

    Attributes:
        flip: Left and right are exchanged.
        brightness: Brightness moves by up to 30 of 255, contrast by up to a quarter.
        rescale: Scaled down to 0.3 to 0.9 of its side and up again.
        blur: Gaussian, sigma 0.3 to 1.5 pixels.
        noise: Gaussian, sigma 1 to 10 of 255.
        jpeg: JPEG of quality 30 to 95.
        erase: A rectangle of 2 to 20 % of the area becomes noise (random erasing: Zhong et al., AAAI 2020).
        self_blend: A real face is pasted onto itself and becomes a fake; see `self_blend`.
        h264: Encoded by x264 at CRF 23 to 40 and decoded.
    """

    flip: float = 0.5
    brightness: float = 0.3
    rescale: float = 0.2
    blur: float = 0.1
    noise: float = 0.1
    jpeg: float = 0.3
    erase: float = 0.1
    self_blend: float = 0.0
    h264: float = 0.0

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
            RequestError: It is none of these.
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
    """Return the face with changes to its pixels chosen at random; `crop` stays as it is.

    Args:
        crop: (height, width, 3) uint8 RGB.
        augmentation: How probable each change is.
        rng: Source of every random choice.

    Returns:
        uint8 of the same shape.
    """
    changed = crop
    for name, change in CHANGES.items():
        if rng.random() < getattr(augmentation, name):
            changed = change(changed, rng)
    return np.ascontiguousarray(changed, dtype=np.uint8)


def augment_face(
    crop: Crop,
    *,
    is_fake: bool,
    landmarks: Landmarks | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Crop, bool]:
    """Return the face as the model sees it, and whether it is a fake now: a self-blended real face is one.

    Args:
        crop: (height, width, 3) uint8 RGB.
        is_fake: Its label. Only real faces are blended.
        landmarks: Of the face; None if they are not known.
        augmentation: How probable each change is.
        rng: Source of every random choice.
    """
    if not is_fake and rng.random() < augmentation.self_blend:
        crop, is_fake = self_blended(crop, landmarks, rng), True
    return augment(crop, augmentation, rng), is_fake


def rng_of(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random generator of one face in one epoch; it does not depend on the worker or the attempt."""
    return np.random.default_rng((seed, epoch, position))
