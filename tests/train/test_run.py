"""What each training worker is given of a cluster."""

import pytest

from dfd.train.run import cpus_of_worker


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
