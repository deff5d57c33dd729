"""Take an output folder for one run: its lock, its record, and what happens if another run takes it over."""

from __future__ import annotations

import _thread
import os
import threading
from contextlib import ExitStack
from typing import Any

from dfd.cluster.runtime import LOG
from dfd_core.config import identity
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.storage.files import exists
from dfd_core.storage.text import as_text
from dfd_core.storage.uri import is_remote, local_path

_taken_over = threading.Event()


def take_folder(
    stack: ExitStack,
    out: OutputFolder,
    configuration: dict[str, Any],
    *,
    overwrite: bool,
    repair: bool = False,
    model: dict[str, Any] | None = None,
) -> RunRecord:
    """Return the folder's record, new or of the same configuration; the folder is this process's until `stack` ends.

    Raises:
        OutputError: Another run holds the folder, it holds something else or another configuration, or it cannot be
            written.
    """
    out.refuse_foreign()
    lock = out.locked(on_lost=_give_way)  # held from here on
    stack.callback(lock.release)
    if overwrite and exists(out.run_json):
        aside, lock = out.move_aside(lock)
        stack.callback(lock.release)
        LOG.info("The old results are now in %s", aside)
    record = RunRecord.read_or_mend(out) if repair else RunRecord.read(out)
    if record is None:
        return RunRecord.new(configuration, model)
    record.refuse_other(configuration)
    record.values |= {  # the limits may differ
        "configuration": configuration,
        "configuration_id": identity(configuration),
    }
    return record


def is_taken_over() -> bool:
    """Return whether another run has taken the folder over: its record is then the other run's."""
    return _taken_over.is_set()


def _give_way() -> None:
    _taken_over.set()
    LOG.error("Another run took the output folder over while this one was silent. This run ends.")
    _thread.interrupt_main()


def source_name(source: str) -> str:
    """Return the address of a source as `run.json` names it: absolute, as text."""
    return as_text(source if is_remote(source) else os.path.abspath(local_path(source)))
