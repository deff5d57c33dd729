"""Any source of videos → the MANIFEST table: a file, a folder, a glob, or a manifest in CSV, Parquet or JSON lines."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from dfd_core.config import ExtractConfig, as_json
from dfd_core.errors import ManifestError, RequestError
from dfd_core.faces.versions import detector_version
from dfd_core.schemas import VIDEO_PLAN
from dfd_core.sources.manifest import manifest_table, refuse_duplicates
from dfd_core.sources.manifest_rows import read_manifest
from dfd_core.sources.source import Wanted
from dfd_core.sources.suffixes import MANIFEST_SUFFIXES, suffix_of
from dfd_core.sources.walk import (
    ALLOW_HTTP,
    Listing,
    glob_local,
    glob_remote,
    local_file,
    remote_file,
    walk_local,
    walk_remote,
)
from dfd_core.storage.address import Address
from dfd_core.storage.reasons import refusal_of
from dfd_core.storage.text import as_text, name_id
from dfd_core.storage.uri import WEB, is_remote, local_path, scheme_of


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A list of videos.

    Attributes:
        table: MANIFEST, then the user's own columns unchanged.
        skipped: Files that a folder held and that are not named like a video, counted by ending.
        unlisted: Folders, and files of a bucket, that could not be listed, with the reason.
        num_links: Of the files of a folder or glob, links to files elsewhere.
    """

    table: pa.Table
    skipped: Counter[str] = field(default_factory=Counter)
    unlisted: tuple[str, ...] = ()
    num_links: int = 0

    @property
    def kind(self) -> str:
        """What `run.json` calls the kind of source."""
        return "videos"

    @property
    def plans(self) -> pa.Table:
        """VIDEO_PLAN of no video: each must be opened first."""
        return VIDEO_PLAN.empty_table()

    @property
    def runs(self) -> None:
        """None: segments are cut out of videos."""
        return None

    @property
    def content(self) -> str:
        """What the source holds, for the log."""
        return f"{self.table.num_rows:,} videos"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the source."""
        num_skipped = sum(self.skipped.values())
        skipped = f"{num_skipped:,} files are not named like a video and are left out"
        links = f"{self.num_links:,} files are links; what they lead to is read"
        return tuple(note for note, number in ((skipped, num_skipped), (links, self.num_links)) if number)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What a user may miss in the source, one reason each."""
        return self.unlisted

    def renamed(self, plan_keys: pa.ChunkedArray) -> VideoSource:
        """Return the source itself: nothing but its table has plan keys."""
        return self

    def extraction(self, config: ExtractConfig) -> dict[str, Any]:
        """Return what decides which crops leave the videos."""
        return {**as_json(config), "detector_version": detector_version(config.detector)}

    def refuse_other(self, wanted: Wanted) -> None:
        """Do nothing: faces can be made in every way."""


def read_videos(source: str, *, allow_http: bool = False) -> VideoSource:
    """Return the videos that `source` names: a video file, a folder, a glob, or a manifest; local or remote.

    Args:
        source: The address.
        allow_http: Take http and https addresses too, as the source and in a manifest.

    Raises:
        ManifestError: The source does not exist, holds no video, or is a manifest that breaks the rules.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    if not is_remote(source):
        source = local_path(source)
    address = Address.parse(source)
    if scheme_of(source) in WEB and not allow_http:
        raise RequestError(f"{source!r} is a web address. {ALLOW_HTTP}")
    try:
        if suffix_of(address.path) in MANIFEST_SUFFIXES and _is_file(address):
            return VideoSource(read_manifest(source, address.path, allow_http=allow_http))
        read = _read_local if address.is_local else _read_remote
        return read(source, address.fs, address.path)
    except PermissionError as error:
        raise ManifestError(f"The source {as_text(source)!r} may not be read") from error
    except OSError as error:
        raise ManifestError(f"The source {source!r} cannot be read: {refusal_of(address, error)}") from error


def _is_file(address: Address) -> bool:
    if address.is_local:
        return os.path.lexists(address.path) and not os.path.isdir(address.path)
    return bool(address.fs.get_file_info(address.path).type == pafs.FileType.File)


def _read_local(source: str, fs: pafs.FileSystem, path: str) -> VideoSource:
    if os.path.isdir(path):
        return _listed(walk_local(path), source)
    if os.path.lexists(path):
        return _listed(Listing([local_file(path, name_id(os.path.basename(path)))]), source)
    if glob.has_magic(source):
        return _listed(glob_local(source), source)
    raise ManifestError(f"Nothing is at the source {as_text(source)!r}")


def _read_remote(source: str, fs: pafs.FileSystem, path: str) -> VideoSource:
    info = fs.get_file_info(path)
    if info.type == pafs.FileType.Directory:
        return _listed(walk_remote(source, fs, path), source)
    if info.type != pafs.FileType.NotFound:
        return _listed(Listing([remote_file(source, info, path)]), source)
    if glob.has_magic(source.partition("?")[0]):
        return _listed(glob_remote(source, path), source)
    raise ManifestError(f"Nothing is at the source {source!r}")


def _listed(found: Listing, source: str) -> VideoSource:
    if not found.files:
        seen = f" ({sum(found.skipped.values())} other files)" if found.skipped else ""
        left = f"; {len(found.unlisted)} not listed, the first: {found.unlisted[0]}" if found.unlisted else ""
        raise ManifestError(f"No video is at the source {as_text(source)!r}{seen}{left}")
    refuse_duplicates(pa.chunked_array([[file.video_id for file in found.files]], pa.string()))
    return VideoSource(manifest_table(found.files, {}), found.skipped, found.unlisted, found.num_links)
