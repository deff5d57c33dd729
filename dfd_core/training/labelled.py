"""Where labelled faces are.

LABELLED is one of four: a folder of faces (it has `faces/`), a Parquet file or a folder of Parquet files with pictures, a
manifest of pictures, or a manifest of videos, whose faces have to be extracted first.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import DfdError, ManifestError
from dfd_core.faces.images import FaceColumns
from dfd_core.sources.suffixes import MANIFEST_SUFFIXES
from dfd_core.sources.videos import read_videos
from dfd_core.storage.address import Address
from dfd_core.storage.files import read_bytes
from dfd_core.storage.tables import parquet_files
from dfd_core.storage.text import as_text, one_line

IMAGE_SUFFIXES = frozenset("bmp jpeg jpg png tif tiff webp".split())

_MAKE_MANIFEST = "Make a manifest of it first: python jobs/make_manifest.py FOLDER --out manifest.parquet"

_DETECTOR = ("detector", "detector_version")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Where labelled faces are.

    Attributes:
        kind: `faces`: tables of pictures. `images`: a manifest of pictures. `videos`: faces are still to be extracted.
        files: The tables' paths in the file system of the address; only for `faces`.
        columns: The names of the tables' columns; only for `faces`.
        manifest: `uri video_id label group dataset`; only for `images`.
        margin: How far the faces' boxes were widened; None if the folder does not say.
        sampling: How the frames were chosen; None if the folder does not say.
        detector: Name and version of the detector that found the faces, where the folder says it.
    """

    kind: Literal["faces", "images", "videos"]
    files: tuple[str, ...] = ()
    columns: FaceColumns | None = None
    manifest: pa.Table | None = None
    margin: float | None = None
    sampling: str | None = None
    detector: str | None = None


def open_labelled(address: str) -> Labelled:
    """Return what is at `address`, without reading a picture.

    Raises:
        ManifestError: Nothing usable is there, or it has no labels.
    """
    at = Address.parse(address)
    fs, path = at.fs, at.path
    try:
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.NotFound:
            raise ManifestError(f"Nothing is at {as_text(address)!r}")
        if kind == pafs.FileType.Directory:
            return _open_folder(at)
        suffix = posixpath.splitext(path)[1][1:].lower()
        if suffix not in MANIFEST_SUFFIXES:
            raise ManifestError(f"{as_text(address)!r} has no labels. {_MAKE_MANIFEST}")
        if suffix == "parquet" and "uri" not in pq.read_schema(path, filesystem=fs).names:
            return _open_tables(fs, [path])
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{address!r} cannot be read: {one_line(error)}") from error
    return _open_manifest(address)


def _open_folder(folder: Address) -> Labelled:
    faces = parquet_files(folder / "faces")
    if faces:
        return _open_tables(folder.fs, faces, **_made_with(folder))
    tables = parquet_files(folder)
    if not tables:
        raise ManifestError(f"{str(folder)!r} holds no table of faces. {_MAKE_MANIFEST}")
    return _open_tables(folder.fs, tables)


def _made_with(folder: Address) -> dict[str, Any]:
    """Return the margin, the sampling and the detector that `run.json` of a folder of faces names."""
    try:
        configuration = json.loads(read_bytes(folder / "run.json"))["configuration"]
        detector = " ".join(str(configuration[name]) for name in _DETECTOR if name in configuration)
        return {
            "margin": float(configuration["margin"]),
            "sampling": str(configuration["sampling"]),
            "detector": detector or None,
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _open_tables(fs: pafs.FileSystem, files: list[str], **made_with: Any) -> Labelled:
    columns = FaceColumns.of(pq.read_schema(files[0], filesystem=fs))
    if columns.label is None:
        raise ManifestError(f"{files[0]} has no column label, so there is nothing to learn")
    return Labelled("faces", files=tuple(files), columns=columns, **made_with)


def _open_manifest(address: str) -> Labelled:
    table = read_videos(address).table
    if "label" not in table.column_names:
        raise ManifestError(f"Expected a column 'label' in the manifest. Received: {table.column_names}")
    suffixes = [posixpath.splitext(uri)[1][1:].lower() for uri in table.column("uri").to_pylist()]
    images = sum(suffix in IMAGE_SUFFIXES for suffix in suffixes)
    if not images:
        return Labelled("videos")
    if images < len(suffixes):
        raise ManifestError(
            f"Expected a manifest of pictures or one of videos. Received: {images:,} pictures and "
            f"{len(suffixes) - images:,} others"
        )
    names = [name for name in ("uri", "video_id", "label", "group", "dataset") if name in table.column_names]
    return Labelled("images", manifest=table.select(names))


def read_images(manifest: pa.Table) -> pa.Table:
    """Return the rows of a manifest of pictures with each picture's bytes as `image`; empty if it cannot be read."""
    return manifest.append_column(
        "image", pa.array([_read_image(uri) for uri in manifest.column("uri").to_pylist()])
    )


def _read_image(uri: str) -> bytes:
    try:
        return read_bytes(Address.parse(uri))
    except (OSError, DfdError):
        return b""
