"""Where finished graphs of models are kept on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FOLDER_VARIABLE = "DFD_CACHE"
"""The environment variable that names another folder; set but empty, it turns keeping graphs off."""


def private_folder() -> Path | None:
    """Return the folder for this user's graphs, or None if graphs are not to be kept or cannot be.

    It is `DFD_CACHE`, else `dfd/graphs` under `XDG_CACHE_HOME` or `~/.cache`. TensorFlow runs what lies there, so the
    folder must belong to this user, and nobody else may write to it.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named == "":
        return None
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(named) if named else Path(base) / "dfd" / "graphs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    is_private = facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if is_private and os.access(folder, os.W_OK) else None
