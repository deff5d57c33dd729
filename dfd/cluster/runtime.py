"""Start Ray, quietly, and set what Ray Data must know. Everything that is process-wide stands here."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from dfd_core.errors import DfdError, OutputError, RequestError
from dfd_core.storage.secrets import redacted
from dfd_core.storage.text import one_line, printable

LOG = logging.getLogger("dfd")
_OBJECT_STORE_BYTES = 2 << 30
_STARTS = 3
_STARTED_S = time.time()


def since_start_s(now_s: float | None = None) -> float:
    """Return the seconds from the start of this command to now, or to `now_s` on this machine's clock."""
    return (time.time() if now_s is None else now_s) - _STARTED_S


def quiet_libraries(*, verbose: bool) -> None:
    """Silence the start-up noise of Ray and TensorFlow; to be called before either is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's own 15 of 19 leaves no room for decoding to stand back behind a model that loads.
    os.environ.setdefault("RAY_worker_niceness", "9")
    # After a second, Ray's own limit, a writer that waits for its next block would be ended: each new one takes a CPU second.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("TF_ENABLE_DEPRECATION_WARNINGS", "0")
        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "0" if sys.stdout.isatty() else "1")
        warnings.simplefilter("ignore")


class _PlainText(logging.Formatter):
    """Writes messages without secrets of addresses, and without what a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(redacted(record.message))
        return super().formatMessage(record)


def start_logging(*, verbose: bool) -> None:
    """Write the job's own log lines to standard error, with the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainText("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOG.propagate = False


def is_local(address: str | None) -> bool:
    """Return whether a run with this `--address` starts a cluster of its own on this machine."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") == "local"


@contextmanager
def ray_cluster(address: str | None, *, verbose: bool) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one on this machine that ends with the block.

    A process that is connected already stays so, before and after.

    Args:
        address: As `ray.init` takes it. None: `RAY_ADDRESS` if set, which a submitted job has, else a new local one.
        verbose: Bring Ray's own log lines back.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        # Read when Ray is imported: a cluster of one machine has no business on the network. The name is Ray's own; on
        # Linux too it decides whether a node goes by its network address or by the loopback one.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        _set_data_context(verbose=verbose)
        yield
        return
    level = logging.INFO if verbose else logging.ERROR
    options = {"logging_level": level, "log_to_driver": verbose}
    if address == "local":
        options |= {
            "include_dashboard": False,
            "object_store_memory": _object_store_bytes(),
        }
    _start(address, options, verbose=verbose)
    try:
        _set_data_context(verbose=verbose)
        yield
    finally:
        ray.shutdown()


def _start(address: str, options: dict[str, Any], *, verbose: bool) -> None:
    """Connect, or start a cluster: again where it does not come up in the half minute that Ray gives a busy machine."""
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    for attempts_left in reversed(range(_STARTS if address == "local" else 1)):
        try:
            with nullcontext() if verbose else without_stderr():
                ray.init(address=address, **options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in place
            return
        except Exception as error:  # a bare one where a process of Ray's own does not start in time
            ray.shutdown()
            reason = f"Ray cannot be reached or started at {address!r}: {one_line(error)}"
            if not attempts_left:
                raise RequestError(reason) from error
            LOG.warning("%s. Trying again", reason.rstrip("."))


@contextmanager
def without_stderr() -> Iterator[None]:
    """Keep what Ray's C++ core writes to the standard error file descriptor while it starts from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _object_store_bytes() -> int:
    """Return a share of shared memory that bounds the crops in flight and fits into a small container."""
    try:
        facts = os.statvfs("/dev/shm")
        free = facts.f_bavail * facts.f_frsize
    except OSError:
        return _OBJECT_STORE_BYTES
    return max(256 << 20, min(_OBJECT_STORE_BYTES, int(free * 0.8)))


def _set_data_context(*, verbose: bool) -> None:
    import ray.data

    from dfd.cluster.backpressure import bound_memory

    context = ray.data.DataContext.get_current()
    # The default reservation keeps CPUs back for operators that need none: on two CPUs only one extract task would run.
    context.op_resource_reservation_enabled = False
    bound_memory(context)
    context.target_min_block_size = 1
    # Every task would have a thread that reads the process's memory maps once a second, for a figure nobody looks at.
    context.memory_usage_poll_interval_s = None
    # The newer reader starts a process for each CPU to read footers, even those of one small file.
    context.use_datasource_v2 = False
    # Ray's own default puts what needs no GPU on nodes without one as long as those have room; Ray Data's spreads it.
    with warnings.catch_warnings(action="ignore"):  # it warns that it will go after Ray 2.60
        context.scheduling_strategy = "DEFAULT"
    context.enable_progress_bars = sys.stdout.isatty()
    context.enable_operator_progress_bars = sys.stdout.isatty()
    context.enable_rich_progress_bars = True
    context.use_ray_tqdm = False
    context.print_on_execution_start = verbose
    if not verbose:
        for name in ("ray.data", "ray"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # an error is raised as well, and told once


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a worker raised into the project's own error, which the user sees as one line.

    Raises:
        DfdError: A worker raised it, or the operating system refused a read or a write.
    """
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, OSError) as error:
        for cause in _causes(error):
            if isinstance(cause, DfdError):
                raise type(cause)(str(cause)) from error
            if isinstance(cause, OSError) and not isinstance(cause, RayError):
                raise OutputError(
                    f"The results cannot be written: {one_line(cause.strerror or cause)}"
                ) from error
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it was raised from, the root first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__  # type: ignore[assignment]
    yield from reversed([link for link in chain if isinstance(link, BaseException)])


def cluster_cpus() -> int:
    """Return the CPUs of the connected cluster, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def cluster_gpus() -> float:
    """Return the GPUs of the connected cluster."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


def cluster_limits() -> dict[str, float]:
    """Return the CPUs and GPUs that the connected cluster has, or may get from its autoscaler if that is more."""
    import ray

    from dfd.cluster.ray_internals import node_groups

    most = {"CPU": 0.0, "GPU": 0.0}
    for group in node_groups():
        for name in most:
            most[name] += max(0, group.max_count) * group.resources.get(name, 0)
    present = ray.cluster_resources()
    return {name: max(number, float(present.get(name, 0))) for name, number in most.items()}
