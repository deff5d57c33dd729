"""Makes FFmpeg start no threads of its own."""

from __future__ import annotations

import ctypes


def count_one_cpu() -> None:
    """Tell FFmpeg that this machine has one CPU.

    A confined process may start no thread. swscale's conversion of HDR colours takes a thread a CPU and cannot be told otherwise.
    """
    import av  # noqa: F401 - loads the library that is looked for

    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "libavutil" in line}
    for path in paths:
        ctypes.CDLL(path).av_cpu_force_count(1)
