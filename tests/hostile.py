"""What a video can do to the process that works on it, at the addresses `hostile:NAME`; and detectors to match."""

from __future__ import annotations

import ctypes
import io
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
    """Return what does, when the child opens it, the deed that a `hostile:` address names; open any other."""
    scheme, _, name = uri.partition(":")
    again = uri in _opened
    _opened.append(uri)
    if scheme == "hostile":
        return Deed(name, parents_files=os.environ.get("PARENTS_FILES", ""))
    if scheme == "second" and again:
        return Deed("segfault")
    if scheme == "slow":
        return Deed("linger", opening.open_video(name))
    return opening.open_video(name if scheme == "second" else uri)


class Deed(io.BytesIO):
    """A file that travels to the child as it is and acts there: what a video does that has taken the child over."""

    def __init__(self, name: str, file: BinaryIO | None = None, parents_files: str = "") -> None:
        super().__init__()
        self._facts = name, file, parents_files

    def __reduce__(self):
        return Deed, self._facts

    def __enter__(self):
        name, file, parents_files = self._facts
        if name == "tell":
            tell(parents_files)
        DEEDS[name]()
        return file or self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._facts[1] is not None:
            self._facts[1].close()
        super().close()


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


def tell(parents_files: str) -> None:
    """Say which large libraries and which of the parent's descriptors are here."""
    libraries = {"ray", "keras", "tensorflow", "pytest", "click"} & sys.modules.keys()
    files = set(map(_link, range(10_000))) & set(parents_files.split())
    raise VideoUnreadableError(f"{sorted(libraries)} {sorted(files)}")


def _link(descriptor: int) -> str:
    """Return what /proc/self/fd, which the child may not read, calls a pipe."""
    try:
        return f"pipe:[{os.fstat(descriptor).st_ino}]"
    except OSError:
        return ""


DEEDS = {
    deed.__name__: deed
    for deed in (
        *(segfault, kill, exit_0, exit_3, sys_exit, sleep, spin),
        *(allocate_at_once, allocate_fast, allocate_slowly, linger),
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
