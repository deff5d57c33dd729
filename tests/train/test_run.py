"""What each training worker is given, and what it refuses."""

import numpy as np
import pytest

from dfd.train.progress import TrainProgress
from dfd.train.run import cpus_of_worker, refusal_of_workers, worker_card, worker_environment
from dfd_core.errors import ModelError, RequestError
from dfd_core.model.card import ModelCard, card_from_fields
from dfd_core.model.preprocess import to_model_input


@pytest.mark.parametrize(
    ("nodes", "share", "num_workers", "on_gpu", "expected"),
    [
        ([(2, 0)], 1.0, 1, False, 1),
        ([(2, 0)], 0.5, 2, False, 0.5),
        ([(16, 0)], 8.0, 1, False, 8),
        ([(8, 0)] * 4, 16.0, 1, False, 8),
        ([(5, 0), (5, 0), (14, 0)], 4.0, 3, False, 4),
        ([(3, 0)] * 8, 4.0, 3, False, 3),
        ([(16, 0)] * 10 + [(8, 1)], 84.0, 1, True, 8),
        ([(8, 4)], 1.0, 4, True, 1),
        ([(1, 4), (16, 0)], 2.0, 4, True, 0),
        ([(2, 4)], 0.25, 4, True, 0),
    ],
)
def test_no_worker_asks_for_more_than_a_node_has(nodes, share, num_workers, on_gpu, expected):
    assert cpus_of_worker(nodes, share, num_workers=num_workers, on_gpu=on_gpu) == expected


def test_workers_prepare_faces_as_the_card_says():
    card = ModelCard(
        "m", input_size=8, color="bgr", scale="x", mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), trained=False
    )
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    found = to_model_input(crops, card_from_fields(worker_card(card)))
    np.testing.assert_array_equal(found, to_model_input(crops, card))


def test_workers_on_other_machines_get_the_backend_of_the_command():
    assert worker_environment({"KERAS_BACKEND": "jax", "HOME": "/"}) == {"env_vars": {"KERAS_BACKEND": "jax"}}
    assert worker_environment({"KERAS_BACKEND": "", "HOME": "/"}) == {}


def test_what_workers_refuse_has_its_kind_and_a_tally_that_is_silent_is_one_line():
    assert isinstance(refusal_of_workers(("ModelError", "no such layer")), ModelError)
    assert str(refusal_of_workers(("ModelError", "no such layer"))) == "no such layer"
    silent = refusal_of_workers(None)
    assert isinstance(silent, RequestError)
    assert "did not answer" in str(silent)
    assert "\n" not in str(silent)


@pytest.mark.ray
def test_progress_ends_quietly_when_its_tally_is_gone(ray_cluster):
    import ray

    with TrainProgress(epochs=1, batch_size=8) as progress:
        ray.kill(progress.tally)
    assert progress.refused is None
    with TrainProgress(epochs=1, batch_size=8) as progress:
        ray.get(progress.tally.refuse.remote("ModelError", "no such layer"))
    assert progress.refused == ("ModelError", "no such layer")
