"""Extraction waits for a slow model: what its tasks have found must fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)

_PRODUCERS = ("extract_block",)
_SHORT_TASKS = 8
"""Tasks that may queue on top: of short ones the driver learns the end some tenths of a second later."""


class FacesFitIntoMemory(BackpressurePolicy):
    """Begins no further extraction while the faces that wait for a model, or to be written, fill Ray Data's share of memory.

    Without its resource reservation (`dfd.cluster.runtime`) Ray Data has no bound of its own: where the model is slower than the
    extraction, faces would fill the object store and then the disks. What has begun is not held up, so few tasks
    may queue for a CPU. Only extraction ever waits, so that what it waits for can go on.
    """

    def can_add_input(self, op: Any) -> bool:
        """Return whether another task of operator `op` may begin."""
        if not any(name in op.name for name in _PRODUCERS):
            return True
        manager = self._resource_manager
        num_slots = manager.get_global_limits().cpu / (op.incremental_resource_usage().cpu or 1.0)
        if op.num_active_tasks() >= max(1.0, num_slots) * 2 + _SHORT_TASKS:
            return False
        waiting_bytes = manager.get_mem_op_outputs(op)
        waiting_bytes += sum(manager.get_op_usage(later).object_store_memory for later in _after(op))
        return waiting_bytes <= manager.get_global_limits().object_store_memory


def bound_memory(context: DataContext) -> None:
    """Let pipelines of `context` keep to `FacesFitIntoMemory`, beside Ray Data's own rules."""
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, FacesFitIntoMemory]
    )


def _after(op: Any) -> Iterator[Any]:
    """Yield the operators that what `op` makes goes through."""
    for later in op.output_dependencies:
        yield later
        yield from _after(later)
