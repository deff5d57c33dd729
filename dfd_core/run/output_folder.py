"""The output folder: where each thing lies, whose it is, and who may write to it now."""

from __future__ import annotations

import _thread
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock, Timeout

from dfd_core.errors import OutputError
from dfd_core.run.commit_log import CommitLog
from dfd_core.schemas import SEGMENT_RESULT, VIDEO_PLAN
from dfd_core.storage.address import Address
from dfd_core.storage.files import PART_SUFFIX, exists
from dfd_core.storage.reasons import refusal_of
from dfd_core.storage.remote_lock import RemoteLock
from dfd_core.storage.swap import replacing_folder
from dfd_core.storage.text import one_line

_LOCK = ".lock"
Lock = FileLock | RemoteLock
"""What keeps other runs out of a folder until it is released."""


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Addresses inside one output folder."""

    root: Address

    @classmethod
    def at(cls, uri: str) -> OutputFolder:
        """Return the output folder that `uri` names, a local path or a remote address.

        Raises:
            RequestError: It is no address.
        """
        return cls(Address.parse(uri))

    @property
    def videos(self) -> Address:
        """The user's table of videos."""
        return self.root / "videos"

    @property
    def faces(self) -> Address:
        """The user's table of faces."""
        return self.root / "faces"

    @property
    def tracks(self) -> Address:
        """The user's table of tracks."""
        return self.root / "tracks"

    @property
    def spans(self) -> Address:
        """The user's table of suspicious stretches."""
        return self.root / "spans"

    @property
    def pictures(self) -> Address:
        """The user's table of kept pictures of faces."""
        return self.root / "pictures"

    @property
    def run_json(self) -> Address:
        """What ran, with what, and how it ended."""
        return self.root / "run.json"

    @property
    def run_json_copy(self) -> Address:
        """A second copy of `run_json`, for a repair."""
        return self.root / "plan" / "run.json"

    @property
    def hashes(self) -> Address:
        """The SHA-256 of every file that a reader uses."""
        return self.root / "MANIFEST.sha256"

    @property
    def quarantine(self) -> Address:
        """Where a repair moves damaged files."""
        return self.root / "quarantine"

    @property
    def profile(self) -> Address:
        """Where one worker's time went, for speedscope."""
        return self.root / "profile.speedscope.json"

    @property
    def manifest(self) -> Address:
        """The manifest as this run reads it: MANIFEST and the user's own columns."""
        return self.root / "plan" / "manifest.parquet"

    @property
    def attempts(self) -> Address:
        """How often each video was tried again: ATTEMPTS."""
        return self.root / "plan" / "attempts.parquet"

    @property
    def plan_log(self) -> CommitLog:
        """The log of VIDEO_PLAN rows; grows only."""
        return self._log("plan", self.root / "plan" / "videos", VIDEO_PLAN)

    @property
    def input_hashes(self) -> Address:
        """The INPUT_HASHES rows of the videos that were read whole."""
        return self.root / "plan" / "hashes"

    @property
    def segment_list(self) -> Address:
        """The SEGMENT rows of the present manifest."""
        return self.root / "plan" / "segments"

    @property
    def open_segments(self) -> Address:
        """Those of `segment_list` that a resumed run has left to do."""
        return self.root / "plan" / "open_segments"

    @property
    def open_videos(self) -> Address:
        """The REQUEST rows of the videos that this run has left to plan."""
        return self.root / "plan" / "open_videos.parquet"

    @property
    def segment_log(self) -> CommitLog:
        """The log of SEGMENT_RESULT rows, or of SEGMENT_FACES rows in a folder of faces; grows only."""
        return self._log("segments", self.root / "segments", SEGMENT_RESULT)

    def _log(self, stage: str, data: Address, schema: pa.Schema) -> CommitLog:
        return CommitLog(data, self.root / "checkpoint" / stage, schema)

    def locked(self, *, on_lost: Callable[[], None] = _thread.interrupt_main) -> Lock:
        """Return a context in which no other run may use the folder; creates the folder.

        A local folder is locked by the operating system, which frees it when the process dies. For a remote one see
        `remote_lock`.

        Args:
            on_lost: Called from a thread when another run has taken a remote folder over.

        Raises:
            OutputError: Another run has it, or it cannot be written.
        """
        fs, path = self.root.fs, self.root.path
        try:
            if not self.root.is_local:
                fs.create_dir(path, recursive=True)
                remote = RemoteLock(self.root / _LOCK, on_lost=on_lost)
                remote.acquire()
                return remote
            os.makedirs(path, exist_ok=True)
            lock = FileLock(os.path.join(path, _LOCK), timeout=0)
            lock.acquire()
        except (Timeout, OutputError) as error:
            raise OutputError(f"Another run is writing to {self.root}") from error
        except OSError as error:
            raise self._unusable(error) from error
        return lock

    def _unusable(self, error: OSError) -> OutputError:
        return OutputError(f"{self.root} cannot be written: {refusal_of(self.root, error)}")

    def refuse_missing(self) -> None:
        """Check that the folder is there.

        Raises:
            OutputError: It is not.
        """
        if not exists(self.root):
            raise OutputError(f"Nothing is at {str(self.root)!r}")

    def refuse_foreign(self) -> None:
        """Check that the folder is absent, empty, or one of this program's.

        Raises:
            OutputError: It holds something that this program did not write.
        """
        fs, path = self.root.fs, self.root.path
        try:
            is_file = fs.get_file_info(path).type == pafs.FileType.File
            infos = [] if is_file else fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise self._unusable(error) from error
        if is_file:
            raise OutputError(f"{self.root} cannot be written: it is a file")
        # A folder with an incomplete first record is treated as empty.
        names = [info.base_name for info in infos if not info.base_name.endswith(PART_SUFFIX)]
        if "run.json" not in names and set(names) - {_LOCK}:
            raise OutputError(
                f"{self.root} is not empty and holds no run.json: {', '.join(sorted(names)[:5])}"
            )

    def move_aside(self, lock: Lock) -> tuple[Address, Lock]:
        """Move what is in the folder to a new address, which has the time in it; the folder stays locked throughout.

        An object store has no folders to rename: its objects are moved one by one, `run.json` last, so that the same
        command after an interruption moves the rest.

        Args:
            lock: What `locked` has returned.

        Returns:
            The new address, and the lock of the folder, which is empty now. The caller releases both locks.

        Raises:
            OutputError: The folder cannot be moved, or it holds the working directory.
        """
        aside = self.root.with_suffix(f".{datetime.now(UTC):%Y%m%dT%H%M%S}")
        try:
            if self.root.is_local:
                lock = _exchange_for_empty(self.root.path, aside.path)
            else:
                _move_files(self.root.fs, self.root.path, aside.path)
        except (OSError, Timeout) as error:
            raise OutputError(f"{self.root} cannot be moved aside: {one_line(error)}") from error
        return aside, lock


def _exchange_for_empty(path: str, aside: str) -> FileLock:
    """Rename local folder `path` to `aside`, put an empty, locked folder in its place, and return the lock."""
    if os.path.commonpath([os.path.realpath(path), os.getcwd()]) == os.path.realpath(path):
        raise OutputError(
            f"{path} holds the working directory, which --overwrite would move away. Start the command elsewhere."
        )
    with replacing_folder(path, keep_as=aside) as new:
        lock = FileLock(os.path.join(new, _LOCK), timeout=0)
        lock.acquire()
    return lock


def _move_files(fs: pafs.FileSystem, folder: str, aside: str) -> None:
    infos = fs.get_file_info(pafs.FileSelector(folder, recursive=True))
    names = [posixpath.relpath(info.path, folder) for info in infos if info.type == pafs.FileType.File]
    for name in sorted(set(names) - {_LOCK}, key=lambda name: (name == "run.json", name)):
        target = posixpath.join(aside, name)
        if not isinstance(fs, pafs.S3FileSystem):
            fs.create_dir(posixpath.dirname(target), recursive=True)
        fs.move(posixpath.join(folder, name), target)
    for info in fs.get_file_info(pafs.FileSelector(folder)):
        if info.type == pafs.FileType.Directory and not _holds_files(fs, info.path):
            fs.delete_dir(info.path)


def _holds_files(fs: pafs.FileSystem, folder: str) -> bool:
    infos = fs.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    return any(info.type == pafs.FileType.File for info in infos)
