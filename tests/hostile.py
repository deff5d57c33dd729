"""What a video can do to the process that works on it, at the addresses `hostile:NAME`; and detectors to match."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

import pyarrow as pa

from dfd_core.config import ExtractConfig
from dfd_core.errors import VideoUnreadableError
from dfd_core.faces.detect import Face
from dfd_core.schemas import face_crops, to_table
from dfd_core.stages.sandbox import Sandbox
from dfd_core.video import opening

_opened: list[str] = []


def open_video(uri: str) -> BinaryIO:
    """Do what a `hostile:` address names; open any other."""
    scheme, _, name = uri.partition(":")
    if scheme == "hostile":
        DEEDS[name]()
    if scheme == "second" and uri in _opened:
        segfault()
    if scheme == "slow":
        linger()
    _opened.append(uri)
    return opening.open_video(name if scheme in ("second", "slow") else uri)


def segfault() -> None:
    ctypes.string_at(0)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_0() -> None:
    os._exit(0)


def exit_3() -> None:
    os._exit(3)


def sys_exit() -> None:
    sys.exit(3)


def sleep() -> None:
    time.sleep(1000)


def spin() -> None:
    """Never return from one C function, which holds the interpreter's lock."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def allocate_at_once() -> None:
    bytearray(10**10).count(1)


def allocate_fast() -> None:
    """Touch memory as fast as the machine can."""
    held = [b"1" * 10**7 for _ in range(1000)]
    time.sleep(len(held))


def allocate_slowly() -> None:
    held = []
    for _ in range(1000):
        held.append(b"1" * 10**7)
        time.sleep(0.01)


def linger() -> None:
    """Wait for 0.2 s, and work for 0.2 s."""
    time.sleep(0.2)
    began_s = time.thread_time()
    while time.thread_time() < began_s + 0.2:
        pass


def tell() -> None:
    """Say which large libraries and which of the parent's descriptors are here."""
    libraries = {"ray", "keras", "tensorflow", "pytest", "click"} & sys.modules.keys()
    links = {_link(fd) for fd in os.listdir("/proc/self/fd")}
    files = links & set(os.environ.get("PARENTS_FILES", "").split())
    raise VideoUnreadableError(f"{sorted(libraries)} {sorted(files)}")


def _link(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:  # the one by which they were listed
        return ""


DEEDS = {
    deed.__name__: deed
    for deed in (
        *(segfault, kill, exit_0, exit_3, sys_exit, sleep, spin),
        *(allocate_at_once, allocate_fast, allocate_slowly, tell),
    )
}


class Detector:
    """Finds the same faces in every frame, each once more confident than the last."""

    def __init__(self, num_faces: int = 1) -> None:
        self.num_faces = num_faces

    def __call__(self, rgb):
        return [Face(10, 10, 90, 90, float(i)) for i in range(self.num_faces)]


class Slow(Detector):
    """Waits and works for each frame."""

    def __call__(self, rgb):
        linger()
        return super().__call__(rgb)


class Unpicklable(Detector):
    """Finds a face that cannot be sent to another process."""

    def __call__(self, rgb):
        return [Face(10, 10, 90, 90, lambda: 1.0)]


def extract_block(segments: pa.Table, *, config: ExtractConfig) -> Iterator[pa.Table]:
    """Yield the face crops of a block of segments, as the job's own stage does."""
    for segment in segments.to_pylist():
        yield to_table([_sandbox(config).extract(segment)], face_crops(config.crop_px))


@lru_cache(maxsize=1)
def _sandbox(config: ExtractConfig) -> Sandbox:
    return Sandbox(config, open_video=open_video, detect=Detector())
