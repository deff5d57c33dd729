"""What this project uses of Ray beside its documented interface. Ray is pinned to one minor version for its sake.

`tests/cluster/test_ray_internals.py` holds every name to the pinned version. A newer Ray is taken by mending this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray._private.state import state
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
