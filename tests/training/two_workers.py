"""One of two plain processes that train together: python -m tests.training.two_workers OUT, with TF_CONFIG set."""

from __future__ import annotations

import json
import os
import sys
import tempfile

import numpy as np

from tests.training.tiny_training import WITH_NORM, Setup, averaging, batch_of, part, settings


def main(out: str) -> None:
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    found: dict[str, np.ndarray] = {}
    for name, build in Setup.builds().items():
        with tempfile.TemporaryDirectory() as folder:
            trainer = Setup.trainer(settings(num_workers=2), folder, build=build, num_workers=2)
            trainer.begin()
            everything = batch_of(8)
            trainer.train_step(part(everything, rank, 2))
            faces = batch_of(6, seed=5)
            validated = trainer.validate([part(faces, rank, 2)], 6)
            found |= {f"{name}/{i}": w for i, w in enumerate(trainer.model.get_weights())}
            logs = trainer.end_epoch(validated)
            found |= {
                f"{name}/p_fake": validated.p_fake,
                f"{name}/loss": np.array([logs["loss"], logs["val_loss"]]),
            }
            if name == WITH_NORM:
                trainer.train_step(part(everything, rank, 2))
                with tempfile.TemporaryDirectory() as state:
                    trainer.save(state if rank == 0 else None)
                    found["saved"] = np.array(len(os.listdir(state)))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Setup.trainer(averaging(num_workers=2), folder, num_workers=2)
        trainer.begin()
        for seed in range(3):
            trainer.train_step(part(batch_of(8, seed=seed), rank, 2))
        found["average/p_fake"] = trainer.validate([part(batch_of(6, seed=5), rank, 2)], 6).p_fake
    np.savez(os.path.join(out, f"worker{rank}.npz"), **found)


if __name__ == "__main__":
    main(sys.argv[1])
