"""What this project uses of Ray beside its documented interface. Ray is pinned to one minor version for its sake.

`tests/cluster/test_ray_internals.py` holds every name to the pinned version. A newer Ray is taken by mending this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state
from ray.core.generated.common_pb2 import TaskStatus
from ray.data import DataContext, Dataset
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)


def without_cpu(dataset: Dataset) -> Dataset:
    """Return `dataset`, whose last operator then takes no CPU; `repartition` has no option for that."""
    dataset._logical_plan.dag.ray_remote_args["num_cpus"] = 0
    return dataset


def node_groups() -> list[Any]:
    """Return the groups that the autoscaler may add nodes of, each with `resources` and `max_count`; none without one."""
    return list(getattr(state.get_cluster_config(), "node_group_configs", ()))


def add_policy(context: DataContext, policy: type[MemoryPolicy]) -> None:
    """Make pipelines of `context` keep to `policy`, beside Ray Data's own rules."""
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, policy])


class MemoryPolicy(BackpressurePolicy):
    """A rule for when an operator may begin another task, in terms of CPUs and bytes of the object store."""

    def num_slots(self, op: Any) -> float:
        """Return how many tasks of `op` the cluster's CPUs run at a time, at least 1."""
        cpus = self._resource_manager.get_global_limits().cpu
        return max(1.0, cpus / (op.incremental_resource_usage().cpu or 1.0))

    def waiting_bytes(self, op: Any) -> float:
        """Return the bytes that `op` has made and that no later operator is done with."""
        manager = self._resource_manager
        later = sum(manager.get_op_usage(other).object_store_memory for other in _after(op))
        return float(manager.get_mem_op_outputs(op) + later)

    def most_bytes(self) -> float:
        """Return Ray Data's share of the object store, in bytes."""
        return float(self._resource_manager.get_global_limits().object_store_memory)


def _after(op: Any) -> Iterator[Any]:
    """Yield the operators that the output of `op` goes through."""
    for later in op.output_dependencies:
        yield later
        yield from _after(later)


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that has begun and not ended.

    Attributes:
        name: The operator's or the method's name, such as `MapBatches(extract_block)`.
        node: Address of its node; empty if it is not known, as of an actor that is being made.
        pid: Its process there.
        since_s: When it began, seconds since 1970 by its node's clock.
    """

    name: str
    node: str
    pid: int
    since_s: float


def running_tasks() -> list[RunningTask]:
    """Return the tasks that run now, a second or so ago. Without a dashboard `ray.util.state` has no answer; this has."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    found = []
    for event in state._get_all_task_events():
        times_ns = dict(event.state_updates.state_ts_ns)
        if times_ns and _RUNNING.intersection({max(times_ns, key=times_ns.__getitem__)}):
            node = addresses.get(event.state_updates.node_id.hex(), "")
            began_s = times_ns.get(TaskStatus.RUNNING, min(times_ns.values())) / 1e9
            found.append(RunningTask(event.task_info.name, node, event.state_updates.worker_pid, began_s))
    return [task for task in found if task.pid]  # the driver's own has none


_RUNNING = {TaskStatus.RUNNING, TaskStatus.RUNNING_IN_RAY_GET, TaskStatus.RUNNING_IN_RAY_WAIT}
