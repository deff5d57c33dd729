"""Extraction waits for a slow model: what its tasks have found must fit into memory."""

from __future__ import annotations

from typing import Any

from ray.data import DataContext

from dfd.cluster.ray_internals import MemoryPolicy, add_policy

_PRODUCERS = ("extract_block", "crop_block")
_SHORT_TASKS = 8
"""Tasks that may queue on top: the driver learns that a short one has ended some tenths of a second later."""


class FacesFitIntoMemory(MemoryPolicy):
    """Begins no extraction while the faces that wait for a model, or to be written, fill Ray Data's share of memory.

    The resource reservation, which would bound them, is off (`dfd.cluster.runtime`): where the model is slower than
    the extraction, faces would fill the object store and then the disks. Tasks that have begun are not held up, so few
    may queue for a CPU. Only extraction ever waits, so the stages that it waits for can go on.
    """

    def can_add_input(self, op: Any) -> bool:
        """Return whether another task of operator `op` may begin."""
        if not any(name in op.name for name in _PRODUCERS):
            return True
        if op.num_active_tasks() >= self.num_slots(op) * 2 + _SHORT_TASKS:
            return False
        return self.waiting_bytes(op) <= self.most_bytes()


def bound_memory(context: DataContext) -> None:
    """Make pipelines of `context` keep to `FacesFitIntoMemory`, beside Ray Data's own rules."""
    add_policy(context, FacesFitIntoMemory)
