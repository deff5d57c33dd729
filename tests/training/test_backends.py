"""Training in Keras' other backends gives what TensorFlow gives."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from dfd_core.errors import RequestError
from dfd_core.model.preprocess import to_model_input
from dfd_core.training.process import strategy_for
from tests.training.one_backend import train
from tests.training.tiny_training import CARD, batch_of, build_with_norm, settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_training_in_another_backend_ends_with_the_same_model(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; pip install {backend}")
    start = build_with_norm(settings()).get_weights()
    np.savez(tmp_path / "start.npz", *start)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "found.npz"
    command = [
        sys.executable,
        "-m",
        "tests.training.one_backend",
        str(out),
        str(tmp_path / "start.npz"),
    ]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = train(start)
    with np.load(out) as found:
        for name, value in expected.items():
            # A bias before a normalisation has no gradient. Adam makes steps of its rounding errors, and the moving mean follows.
            at_most = 5e-3 if name.endswith(("/1", "/4")) else 1e-4
            if name != "model":
                np.testing.assert_allclose(found[name], value, atol=at_most, err_msg=name)
        (tmp_path / "model.keras").write_bytes(found["model"].tobytes())
        kept = [found[f"kept/{number}"] for number in range(len(start))]
    exported = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(exported.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(one, other)
    crops = batch_of(8, seed=99).crops
    own = build_with_norm(settings())
    own.set_weights(kept)
    np.testing.assert_allclose(
        np.asarray(exported(to_model_input(crops, CARD))),
        np.asarray(own(to_model_input(crops, CARD))),
        atol=1e-6,
    )


def test_several_workers_need_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert strategy_for(1) is None
    with pytest.raises(RequestError, match=r"--workers 1 with KERAS_BACKEND=jax\. Received: 2"):
        strategy_for(2)
