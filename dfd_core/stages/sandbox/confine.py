"""Take from this process every right that decoding a video does not need, and say which layers are on."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from contextlib import suppress
from typing import Any

from dfd_core.stages.sandbox.landlock import deny_everything, landlock_version
from dfd_core.stages.sandbox.seccomp import install_filter, is_known_machine

_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_CAPABILITY_VERSION_3 = 0x20080522
_SPARE_DESCRIPTORS = 8

LEVELS = ("full", "filtered", "limits", "off")
"""`full`: every layer is on. `filtered`: the system-call filter is, Landlock is not. `limits`: resource limits only.
`off`: nothing was asked for. Time and memory are limited at every level."""


def confine() -> dict[str, Any]:
    """Confine this process for good and return its level and the layers that are on.

    The order matters: each layer still lets the next one be put on.
    """
    layers: dict[str, Any] = {"resource_limits": _limit_resources()}
    layers["no_new_privileges"] = _attempt(_refuse_new_privileges)
    layers["capabilities_dropped"] = _attempt(_drop_capabilities)
    version = landlock_version() if layers["no_new_privileges"] and _is_single_threaded() else 0
    layers["landlock"] = version if version and _attempt(lambda: deny_everything(version)) else 0
    layers["seccomp"] = layers["no_new_privileges"] and is_known_machine() and _attempt(install_filter)
    return {"level": _level(layers), **layers}


def _level(layers: dict[str, Any]) -> str:
    """Return the name of what is on.

    >>> _level({"seccomp": True, "landlock": 0, "capabilities_dropped": True})
    'filtered'
    """
    if not (layers["seccomp"] and layers["capabilities_dropped"]):
        return "limits"
    return "full" if layers["landlock"] else "filtered"


def _attempt(layer: Any) -> bool:
    try:
        layer()
    except (
        OSError,
        AttributeError,
        ValueError,
    ):  # an older kernel, another system, a stricter one around this one
        return False
    return True


def _limit_resources() -> bool:
    """Allow no further process, no byte in any file, and few more descriptors."""
    num_descriptors = max(map(int, os.listdir("/proc/self/fd"))) + _SPARE_DESCRIPTORS if _has_proc() else 64
    limits = {"RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": num_descriptors, "RLIMIT_CORE": 0}
    is_done = True
    for name, limit in limits.items():
        done = _attempt(
            lambda name=name, limit=limit: resource.setrlimit(getattr(resource, name), (limit,) * 2)
        )
        is_done = is_done and done
    return is_done


def _has_proc() -> bool:
    return os.path.isdir("/proc/self/fd")


def _is_single_threaded() -> bool:
    """Return whether Landlock, which restricts the calling thread, restricts all of the process."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/task")) == 1
    return False


def _refuse_new_privileges() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def _drop_capabilities() -> None:
    """Give up all capabilities; a process that does not run as root has none."""
    if sys.platform != "linux":
        raise OSError("no capabilities on this system")
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")
