"""A training in another backend of Keras: KERAS_BACKEND=jax python -m tests.training.one_backend OUT START."""

from __future__ import annotations

import sys
import tempfile

import numpy as np

from dfd_core.training.process import prepare_process
from tests.training.tiny_training import Setup, batch_of, build_with_norm, settings

RECIPE = {
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "average": 0.5,
    "lr_schedule": "cosine",
    "label_smoothing": 0.1,
    "epochs": 2,
}


def train(start: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return what two epochs of three steps give from the weights `start`, resumed in the middle of the second."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as state:
        trainer = Setup.trainer(settings(**RECIPE), folder, build=build_with_norm)
        trainer.model.set_weights(start)
        trainer.begin()
        logs = []
        for epoch in range(2):
            for step in range(3):
                if (epoch, step) == (1, 1):
                    trainer.save(state)
                    trainer.end()
                    trainer = Setup.trainer(settings(**RECIPE), folder, build=build_with_norm)
                    trainer.load(state, first_worker=True)
                    trainer.begin()
                trainer.train_step(batch_of(8, seed=10 * epoch + step))
            validated = trainer.validate([batch_of(8, seed=99)], 8)
            logs.append(trainer.end_epoch(validated))
        own = trainer.model.get_weights()
        trainer.end()
        found = {f"own/{i}": value for i, value in enumerate(own)}
        found |= {f"kept/{i}": value for i, value in enumerate(trainer.model.get_weights())}
        found["p_fake"] = validated.p_fake
        found["logs"] = np.array([[entry[name] for name in sorted(entry)] for entry in logs])
        with tempfile.TemporaryDirectory() as bundle:
            found["model"] = np.frombuffer(trainer.export(bundle).read_bytes(), np.uint8)
    return found


if __name__ == "__main__":
    prepare_process(num_threads=1)
    with np.load(sys.argv[2]) as arrays:
        weights = [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
    np.savez(sys.argv[1], **train(weights))
