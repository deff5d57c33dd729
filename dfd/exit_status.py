"""How a command ends: its exit status, what an interrupt does, and which errors are one line of the log."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

from dfd.cluster.runtime import LOG, start_logging
from dfd_core.errors import DfdError
from dfd_core.storage.reasons import reason_of
from dfd_core.storage.text import one_line

_interrupted = threading.Event()


def exit_with(job: Callable[[], int | None], *, verbose: bool = False) -> None:
    """Run `job` and end the process with the status that it returns, 0 for None.

    An expected failure is one line of the log and status 2; an interrupt is status 130.
    """
    start_logging(verbose=verbose)
    _interrupted.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        sys.exit(job() or 0)
    except (Exception, KeyboardInterrupt) as error:
        if is_interrupt(error):
            LOG.error("Interrupted. The same command resumes.")
            sys.exit(130)
        if (line := _expected(error)) is None:
            raise
        LOG.error("%s", line)
        sys.exit(2)


def is_interrupt(error: BaseException) -> bool:
    """Return whether `error` came of an interrupt: DuckDB raises an exception of its own for one."""
    return isinstance(error, KeyboardInterrupt) or _interrupted.is_set()


def _interrupt(*_: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _expected(error: BaseException) -> str | None:
    """Return the line for a failure that is no fault of the program, or None for any other."""
    if isinstance(error, DfdError):
        return str(error)
    if isinstance(error, OSError):  # the storage failed outside the calls that translate its errors
        return f"The storage failed: {reason_of(error)}"
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None and isinstance(error, duckdb.Error):  # out of memory or disk: the queries are ours
        return f"The tables cannot be joined: {one_line(error)}. If a file of the log is damaged, --repair mends it"
    return None
