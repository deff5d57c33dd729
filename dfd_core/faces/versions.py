"""Which version of a face detector this is. Loads no detector."""

from __future__ import annotations

import importlib.metadata

FAST_VERSION = "centerface-1"
"""Names the network, its threshold and its framing; a change of any of them is another version."""


def detector_version(name: str) -> str:
    """Return the version of the detector `name`, one of `config.DETECTORS`, as `run.json` holds it."""
    if name == "fast":
        return FAST_VERSION
    for package in ("dlib-bin", "dlib"):
        try:
            return f"dlib-{importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "dlib"
