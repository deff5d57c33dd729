"""Labelled pictures of faces: where they are, what each row says, and the place of each in training or validation.

LABELLED is one of four: a folder of `jobs/extract_faces.py` (it has `faces/`), a Parquet file or a folder of Parquet
files with pictures, a manifest of pictures, or a manifest of videos, whose faces have to be extracted first.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import DfdError, ManifestError, VideoUndecodableError
from dfd_core.faces.images import FaceColumns, decode, resized
from dfd_core.run.output_folder import parquet_files
from dfd_core.schemas import to_table
from dfd_core.sources.manifest import LABELS, MANIFEST_SUFFIXES, read_source
from dfd_core.storage import address as storage

IMAGE_SUFFIXES = frozenset("bmp jpeg jpg png tif tiff webp".split())

INDEX = pa.schema(
    [
        pa.field("face_key", pa.binary(16), nullable=False),
        pa.field("image_hash", pa.binary(16), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("frame_index", pa.int64()),
        pa.field("decodes", pa.bool_(), nullable=False),
    ]
)
"""One row per face, without its picture. `face_key` is a hash of video and picture; `image_hash` of the picture alone."""

PLACED = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("is_fake", pa.bool_(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)
"""One row per place in the order of training or validation, with the picture's bytes as they were found."""

_MAKE_MANIFEST = "Make a manifest of it first: python jobs/make_manifest.py FOLDER --out manifest.parquet"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Where labelled faces are.

    Attributes:
        kind: `faces`: tables of pictures. `images`: a manifest of pictures. `videos`: faces are still to be extracted.
        files: The tables' paths in the file system of the address; only for `faces`.
        columns: What the tables' columns hold; only for `faces`.
        manifest: `uri video_id label group`; only for `images`.
        margin: What the faces' boxes were widened by, where the folder says it.
        sampling: Which frames the faces are from, where the folder says it.
    """

    kind: Literal["faces", "images", "videos"]
    files: tuple[str, ...] = ()
    columns: FaceColumns | None = None
    manifest: pa.Table | None = None
    margin: float | None = None
    sampling: str | None = None


def open_labelled(address: str) -> Labelled:
    """Return what is at `address`, without reading a picture.

    Raises:
        ManifestError: Nothing usable is there, or it has no labels.
    """
    fs, path = storage.filesystem(address)
    try:
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.NotFound:
            raise ManifestError(f"Nothing is at {storage.as_text(address)!r}")
        if kind == pafs.FileType.Directory:
            return _open_folder(address, fs, path)
        suffix = posixpath.splitext(path)[1][1:].lower()
        if suffix not in MANIFEST_SUFFIXES:
            raise ManifestError(f"{storage.as_text(address)!r} has no labels. {_MAKE_MANIFEST}")
        if suffix == "parquet" and "uri" not in pq.read_schema(path, filesystem=fs).names:
            return _open_tables(fs, [path])
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{address!r} cannot be read: {storage.one_line(error)}") from error
    return _open_manifest(address)


def _open_folder(address: str, fs: pafs.FileSystem, path: str) -> Labelled:
    faces = parquet_files(fs, posixpath.join(path, "faces"))
    if faces:
        return _open_tables(fs, faces, **_made_with(address))
    tables = parquet_files(fs, path)
    if not tables:
        raise ManifestError(f"{storage.as_text(address)!r} holds no table of faces. {_MAKE_MANIFEST}")
    return _open_tables(fs, tables)


def _made_with(folder: str) -> dict[str, Any]:
    """Return the margin and sampling that `run.json` of a folder of faces names."""
    try:
        configuration = json.loads(storage.read_bytes(storage.join(folder, "run.json")))["configuration"]
        return {"margin": float(configuration["margin"]), "sampling": str(configuration["sampling"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _open_tables(fs: pafs.FileSystem, files: list[str], **made_with: Any) -> Labelled:
    columns = FaceColumns.of(pq.read_schema(files[0], filesystem=fs))
    if columns.label is None:
        raise ManifestError(f"{files[0]} has no column label, so there is nothing to learn")
    return Labelled("faces", files=tuple(files), columns=columns, **made_with)


def _open_manifest(address: str) -> Labelled:
    table = read_source(address).table
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
    names = [name for name in ("uri", "video_id", "label", "group") if name in table.column_names]
    return Labelled("images", manifest=table.select(names))


def read_images(manifest: pa.Table) -> pa.Table:
    """Return rows of a manifest of pictures with each one's bytes as `image`; empty where it cannot be read."""
    return manifest.append_column(
        "image", pa.array([_read_image(uri) for uri in manifest.column("uri").to_pylist()])
    )


def _read_image(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except (OSError, DfdError):
        return b""


def index_faces(faces: pa.Table, columns: FaceColumns) -> pa.Table:
    """Return INDEX of a table of pictures, each one decoded once to see that it can be.

    Raises:
        ManifestError: A row has no name.
    """
    video_ids = faces.column(columns.video_id).to_pylist()
    images = [image or b"" for image in image_bytes(faces, columns.image)]
    if None in video_ids:
        raise ManifestError(f"A row of the faces has no {columns.video_id}")
    labels = faces.column(columns.label).to_pylist() if columns.label else [None] * len(images)
    groups = faces.column(columns.group).to_pylist() if columns.group else [None] * len(images)
    has_frames = "frame_index" in faces.column_names
    frames = faces.column("frame_index").to_pylist() if has_frames else [None] * len(images)
    rows = zip(images, video_ids, labels, groups, frames, strict=True)
    return to_table(
        [
            {
                "face_key": face_key(video_id, image),
                "image_hash": hashlib.blake2b(image, digest_size=16).digest(),
                "video_id": video_id,
                "label": label or None,
                "group": group or None,
                "frame_index": frame,
                "decodes": _decodes(image),
            }
            for image, video_id, label, group, frame in rows
        ],
        INDEX,
    )


def face_key(video_id: str, image: bytes) -> bytes:
    """Return what names one picture of one video: 16 bytes."""
    return hashlib.blake2b(
        image, digest_size=16, salt=hashlib.blake2b(video_id.encode(), digest_size=16).digest()
    ).digest()


def image_bytes(faces: pa.Table, column: str) -> list[bytes | None]:
    """Return the pictures' bytes, from a binary column or a struct with a field `bytes`."""
    values = faces.column(column).combine_chunks()
    found = values.field("bytes") if pa.types.is_struct(values.type) else values
    return list(found.to_pylist())


def _decodes(image: bytes) -> bool:
    try:
        return bool(decode(image).size)
    except (VideoUndecodableError, cv2.error):
        return False


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces that can be learned from, and how many could not.

    Attributes:
        rows: One row a face, sorted by `face_key`: `face_key image_hash video_id group frame_index is_fake`.
        left_out: Faces that were left out, by reason.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]


def usable_faces(index: pa.Table) -> Faces:
    """Return the labelled, decodable faces of INDEX, a picture that a video has twice only once.

    Raises:
        ManifestError: A label is neither real nor fake, a video has two labels or groups, or nothing is left.
    """
    labels = [label for label in pc.unique(index.column("label")).to_pylist() if label not in (*LABELS, None)]
    if labels:
        raise ManifestError(f"Expected the label {' or '.join(LABELS)}. Received: {labels[0]!r}")
    rows = index.to_pandas()
    unlabelled, broken = rows["label"].isna(), ~rows["decodes"]
    repeated = ~unlabelled & ~broken & rows.duplicated("face_key")
    left_out = {
        "unlabelled": int(unlabelled.sum()),
        "undecodable": int((broken & ~unlabelled).sum()),
        "repeated": int(repeated.sum()),
    }
    rows = rows[~unlabelled & ~broken & ~repeated].sort_values("face_key", ignore_index=True)
    if rows.empty:
        raise ManifestError(f"No labelled face is left: {left_out}")
    for name in ("label", "group"):
        kinds = rows.groupby("video_id")[name].nunique(dropna=False)
        if (kinds > 1).any():
            raise ManifestError(
                f"Expected one {name} for each video. Received: several for {kinds.idxmax()!r}"
            )
    rows["is_fake"] = rows["label"] == "fake"
    names = ["face_key", "image_hash", "video_id", "group", "frame_index", "is_fake"]
    return Faces(rows[names], {name: count for name, count in left_out.items() if count})


@dataclass(frozen=True, slots=True)
class Placement:
    """The order of one side's faces.

    Attributes:
        positions_of: `face_key` → its positions; more than one where a face fills the last batch.
        is_fake: `face_key` → its label.
        weight_of_label: What a face weighs, by label: real, fake.
        count: Faces; positions from here on repeat the first ones.
        size: Positions.
        pads_count: Whether a repeated face counts (training) or weighs nothing (validation).
    """

    positions_of: dict[bytes, tuple[int, ...]]
    is_fake: dict[bytes, bool]
    weight_of_label: tuple[float, float]
    count: int
    size: int
    pads_count: bool

    def rows(self, faces: pa.Table, columns: FaceColumns) -> pa.Table:
        """Return the PLACED rows of those of `faces` that are on this side."""
        rows: list[dict[str, Any]] = []
        seen: set[bytes] = set()
        images, video_ids = image_bytes(faces, columns.image), faces.column(columns.video_id).to_pylist()
        for image, video_id in zip(images, video_ids, strict=True):
            key = face_key(video_id, image or b"")
            if key in seen:
                continue
            seen.add(key)
            for position in self.positions_of.get(key, ()):
                counts = self.pads_count or position < self.count
                weight = self.weight_of_label[self.is_fake[key]] if counts else 0.0
                rows.append(
                    {"position": position, "is_fake": self.is_fake[key], "weight": weight, "image": image}
                )
        return to_table(rows, PLACED)


def place(
    faces: pd.DataFrame, *, multiple: int, seed: int | None, weight_of_label: tuple[float, float] = (1.0, 1.0)
) -> Placement:
    """Return an order of `faces` whose length is a multiple of `multiple`, so that every step is full on every worker.

    Args:
        faces: `face_key is_fake`.
        multiple: The global batch.
        seed: Of a random order, in which the first faces fill the last batch and count twice. None: the faces' own
            order, and what fills the last batch weighs nothing.
        weight_of_label: Of real and fake.
    """
    count = len(faces)
    size = -(-count // multiple) * multiple
    order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    keys, labels = faces["face_key"].to_list(), faces["is_fake"].to_list()
    positions: dict[bytes, tuple[int, ...]] = {}
    for position in range(size):
        key = keys[order[position % count]]
        positions[key] = (*positions.get(key, ()), position)
    return Placement(
        positions,
        dict(zip(keys, labels, strict=True)),
        weight_of_label,
        count,
        size,
        pads_count=seed is not None,
    )


def balanced_weights(is_fake: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the weights of real and fake that make both labels weigh the same, 1 on average over the faces.

    >>> balanced_weights(np.array([True, False, False, False]))
    (0.6666666666666666, 2.0)
    """
    num_fake = int(is_fake.sum())
    return len(is_fake) / (2 * (len(is_fake) - num_fake)), len(is_fake) / (2 * num_fake)


def crops_of_images(images: list[bytes], input_size: int) -> npt.NDArray[np.uint8]:
    """Return pictures decoded and resized as scoring resizes crops: uint8 (n, input_size, input_size, 3), RGB."""
    return np.stack([resized(decode(image), input_size) for image in images])
