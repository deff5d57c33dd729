"""Named sets of training settings: `seed` is what the seed report did, `robust` what makes a detector hold up elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "seed": {},
    "robust": {
        "augment": "flip=0.5,brightness=0.5,rescale=0.4,blur=0.2,noise=0.2,h264=0.3,jpeg=0.4,erase=0.2,self_blend=0.25",
        "optimizer": "adamw",
        "learning_rate": 3e-4,
        "weight_decay": 0.03,
        "average": 0.999,
        "label_smoothing": 0.06,
        "lr_schedule": "cosine",
        "class_balance": "weights",
        "uncertain_rate": 0.02,
    },
}
"""By name, the options of `dfd finetune` in which a recipe differs from the defaults."""
