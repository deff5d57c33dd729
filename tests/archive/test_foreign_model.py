"""A Keras model that this project did not build, scored through a card that says how to feed it."""

import json

import numpy as np
import pytest

from tests.commands.test_score import faces_of, score_here, videos_of
from tests.reference import seed_loop

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("ignore:.ray_remote_args. is deprecated"),  # as the jobs themselves ignore it
]

CARD = {
    "name": "stranger",
    "input_size": 96,
    "scale": "x/127.5-1",
    "color": "bgr",
    "classes": ["real"],
    "threshold": 0.4,
}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A small network with one sigmoid whose 1 means real, on 96-pixel BGR crops in -1 to 1."""
    import keras

    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((96, 96, 3)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(
                1, activation="sigmoid", kernel_initializer=keras.initializers.RandomNormal(stddev=8.0)
            ),
        ]
    )
    folder = tmp_path_factory.mktemp("stranger")
    model.save(folder / "model.keras")
    (folder / "card.json").write_text(json.dumps(CARD))
    return model, folder


def test_its_numbers_are_those_of_the_model_called_directly(stranger, clip_folder, tmp_path):
    model, bundle = stranger
    clip = clip_folder / "good_a.mp4"
    done = score_here(clip, "--model", bundle, "--out", tmp_path / "out", "--precision", "float32")
    assert done.returncode == 0, done.stderr
    crops = np.stack([crop for _, _, crop in seed_loop(clip, crop_px=96)])
    p_real = model(crops[..., ::-1] / 127.5 - 1.0, training=False).numpy()[:, 0]
    found = [row["p_fake"] for row in faces_of(tmp_path / "out")]
    assert np.ptp(p_real) > 1e-4, "a constant model would prove nothing"
    np.testing.assert_allclose(found, 1 - p_real, atol=1e-5)
    (row,) = videos_of(tmp_path / "out").values()
    assert row["model_id"].startswith("stranger@")
    assert row["verdict"] == ("fake" if row["p_fake"] >= CARD["threshold"] else "real")
