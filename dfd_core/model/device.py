"""What TensorFlow is told of the device before its first use in a process, and what the CPU offers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import tensorflow as tf


def prepare_tensorflow(num_threads: int | None, *, fewest_inter_op: int = 1) -> str:
    """Configure TensorFlow for this process and return `cpu` or `gpu`.

    GPU memory is taken as it is needed. Where TensorFlow is in use already, its settings stay.

    Args:
        num_threads: CPU threads; None for one a core.
        fewest_inter_op: Fewest operations that may run side by side; workers that wait for one another need 2.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # in use
            tf.config.experimental.set_memory_growth(gpu, True)
    if num_threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != num_threads:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(fewest_inter_op, num_threads))
    return "gpu" if gpus else "cpu"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU computes in bfloat16; False where it does not tell."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
