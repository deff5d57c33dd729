"""What the log says when nothing has finished for a while."""

from __future__ import annotations

import time

import pytest

from dfd.archive.watchdog import Watchdog, standing
from dfd.cluster.ray_internals import RunningTask, running_tasks


def test_it_barks_once_each_time_its_patience_passes_and_not_while_something_finishes() -> None:
    now_s = [0.0]
    watchdog = Watchdog(10, lambda: now_s[0])
    found = []
    for second, count in enumerate([0, 1, 1, None, 2, 2, 2]):
        now_s[0] = second * 6.0
        found.append(watchdog.is_stalled(count))
    assert found == [False, False, False, True, False, False, True]
    assert watchdog.since_s == 12.0


def test_the_line_names_stage_node_process_and_time() -> None:
    tasks = [
        RunningTask("MapBatches(extract_block)", "10.0.0.5", 71, 100.0),
        RunningTask("MapBatches(extract_block)", "10.0.0.5", 72, 40.0),
        RunningTask("MapWorker(MapBatches(ScoreBlock)).submit", "10.0.0.9", 8, 380.0),
        RunningTask("Tally.read", "10.0.0.5", 9, 0.0),
    ]
    assert standing(300, tasks, now_s=400) == (
        "Nothing has finished for 5 min: "
        "MapBatches(extract_block) on 10.0.0.5: 2 tasks, the longest for 6 min in process 72; "
        "MapWorker(MapBatches(ScoreBlock)).submit on 10.0.0.9: one task for 20 s in process 8. The run goes on"
    )
    assert "no task runs" in standing(300, [], now_s=0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_tells_what_runs_without_a_dashboard() -> None:
    import ray

    @ray.remote(num_cpus=0)
    def wait_for_ever() -> None:
        time.sleep(1000)

    waiting = wait_for_ever.options(name="MapBatches(stuck)").remote()
    deadline_s = time.monotonic() + 60
    while not (found := [task for task in running_tasks() if task.name == "MapBatches(stuck)"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
    assert (found[0].node, found[0].pid > 0) == (ray.nodes()[0]["NodeManagerAddress"], True)
    assert abs(found[0].since_s - time.time()) < 120
    ray.cancel(waiting, force=True)
