"""A model that is slower than the extraction: what waits for it stays in bounds."""

import time

import pyarrow as pa
import pytest
import ray

from dfd.cluster.runtime import ray_cluster as connected

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NUM_TASKS, TASK_BYTES = 60, 40_000_000


@ray.remote(num_cpus=0)
class Waiting:
    """Counts blocks that are made and not yet taken up."""

    def __init__(self):
        self.now = self.most = self.taken = 0

    def add(self, change):
        self.now += change
        self.taken += change < 0
        self.most = max(self.most, self.now)

    def read(self):
        return self.most, self.taken


def extract_block(rows, *, waiting):
    ray.get(waiting.add.remote(1))
    return pa.table({"n": rows.column("n"), "crop": [bytes(TASK_BYTES)]})


class SlowModel:
    def __init__(self, waiting):
        self.waiting = waiting

    def __call__(self, faces):
        time.sleep(0.1)
        ray.get(self.waiting.add.remote(-1))
        return faces.select(["n"])


def test_extraction_waits_when_faces_fill_their_share_of_memory():
    waiting = Waiting.remote()
    arrow = {"batch_format": "pyarrow", "batch_size": None}
    with connected(None, verbose=False):
        share = 0.25 * ray.cluster_resources()["object_store_memory"]
        slots = int(ray.cluster_resources()["CPU"])
        listed = ray.data.from_arrow(pa.table({"n": range(NUM_TASKS)})).repartition(NUM_TASKS)
        found = listed.map_batches(extract_block, fn_kwargs={"waiting": waiting}, **arrow).map_batches(
            SlowModel, fn_constructor_args=(waiting,), concurrency=1, num_cpus=0, **arrow
        )
        assert sorted(found.to_pandas()["n"]) == list(range(NUM_TASKS))
    most, taken = ray.get(waiting.read.remote())
    assert taken == NUM_TASKS
    allowed = share / TASK_BYTES + 2 * slots + 8 + 2  # what fits, what had begun, what the model has in hand
    assert allowed < 0.75 * NUM_TASKS, "the test is too small for this machine's object store"
    assert most <= allowed
