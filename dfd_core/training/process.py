"""Setup of a training process before its first use of Keras' backend, and what its hardware can do."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context

from dfd_core.errors import RequestError
from dfd_core.model.device import cpu_has_bfloat16, prepare_tensorflow

_MOST_SILENT_MS = 60_000


def prepare_process(*, num_threads: int | None) -> str:
    """Set up Keras' backend before its first use in this process and return `cpu` or `gpu`."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        tf.config.set_visible_devices(
            [], "GPU"
        )  # this process imports TensorFlow too, which would take the memory
        if backend == "torch" and num_threads is not None:
            import torch

            torch.set_num_threads(num_threads)
        return "gpu" if _gpu_capability() else "cpu"
    return prepare_tensorflow(num_threads, fewest_inter_op=2)


def strategy_for(num_workers: int) -> Any:
    """Return TensorFlow's strategy of this process; None with another backend of Keras.

    For more than one worker TensorFlow reads `TF_CONFIG` in the environment.

    Raises:
        RequestError: More than one worker is wanted with another backend.
    """
    if keras.backend.backend() != "tensorflow":
        if num_workers > 1:
            raise RequestError(
                f"Expected --workers 1 with KERAS_BACKEND={keras.backend.backend()}. Received: {num_workers}"
            )
        return None
    if num_workers == 1:
        return tf.distribute.get_strategy()
    _be_patient_with_silent_workers(num_workers)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _be_patient_with_silent_workers(num_workers: int) -> None:
    """Let a worker be silent for a minute.

    The strategy's own limit is ten seconds, which an overloaded machine exceeds. Ray Train notices dead workers. The
    strategy keeps a service that is configured already.
    """
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=_MOST_SILENT_MS,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=num_workers)],
    )


def training_precision(precision: str) -> str:
    """Return `precision`; for `auto` bfloat16 if the hardware has it, otherwise float32."""
    if precision != "auto":
        return precision
    capability = _gpu_capability()
    if capability is not None:
        return "bfloat16" if capability >= (8, 0) else "float32"
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def _gpu_capability() -> tuple[int, ...] | None:
    """Return the CUDA compute capability of the GPU that Keras' backend uses; None without one."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        found = getattr(device, "compute_capability", "0.0")
        return tuple(map(int, found.split("."))) if device.platform == "gpu" else None
    if backend == "torch":
        import torch

        return torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    return tuple(tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)))
