"""Pictures of faces in Parquet: their bytes, and the columns that describe them.

Two kinds of table are read: `faces/` of `dfd faces` (schema FACE_IMAGES), and tables made elsewhere, one picture a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfd_core.config import IMAGE_FORMATS
from dfd_core.errors import ManifestError, VideoUndecodableError

JPEG_QUALITY = 95

_IMAGE_NAMES = ("image", "jpeg", "jpg", "png", "bytes")
_VIDEO_ID = "video_id"
_ID_NAMES = (_VIDEO_ID, "name", "id", "path", "filename")


@dataclass(frozen=True, slots=True)
class FaceColumns:
    """The columns of a table of face pictures.

    Attributes:
        image: Holds the encoded picture: binary, or a struct with a binary field `bytes`.
        video_id: Names the video of a picture, in text or numbers. A column `video_id` is preferred, then a column of
            text.
        label: `real` or `fake`; None where the table has no labels.
        group: The source video or person, in text or numbers; None where the table has none.
        dataset: Where a picture is from, in text: `dataset` or `pool`; None where the table has neither.
        landmarks: Lists of numbers, x and y by turns, as fractions of the picture's width and height; None where the table
            has none.
    """

    image: str
    video_id: str
    label: str | None
    group: str | None
    dataset: str | None = None
    landmarks: str | None = None

    @classmethod
    def of(cls, schema: pa.Schema) -> FaceColumns:
        """Return the columns of `schema` by their meaning.

        Raises:
            ManifestError: No column holds pictures, none names them, or `video_id` has another type.
        """
        image = _first(schema, _IMAGE_NAMES, _holds_bytes)
        video_id = (
            _first(schema, (_VIDEO_ID,), _holds_names)
            or _first(schema, _ID_NAMES, _holds_text)
            or _first(schema, _ID_NAMES, _holds_names)
        )
        if image is None:
            raise ManifestError(
                f"Expected a table of pictures, binary in a column {', '.join(_IMAGE_NAMES)}. Received: {schema.names}"
            )
        if video_id is None:
            raise ManifestError(
                f"Expected a column that names each picture: {', '.join(_ID_NAMES)}. Received: {schema.names}"
            )
        if video_id != _VIDEO_ID and _VIDEO_ID in schema.names:
            raise ManifestError(
                f"Expected a column {_VIDEO_ID} of text or numbers. Received: {schema.field(_VIDEO_ID).type}"
            )
        return cls(
            image,
            video_id,
            _first(schema, ("label",), _holds_text),
            _first(schema, ("group",), _holds_names),
            _first(schema, ("dataset", "pool"), _holds_text),
            _first(schema, ("landmarks",), _holds_points),
        )

    def with_text_names(self, faces: pa.Table) -> pa.Table:
        """Return `faces` with the names of videos and groups as text."""
        for name in dict.fromkeys((self.video_id, self.group)):
            if name is not None and not _holds_text(faces.schema.field(name).type):
                where = faces.schema.get_field_index(name)
                faces = faces.set_column(where, name, faces.column(name).cast(pa.string()))
        return faces


def _first(schema: pa.Schema, names: Sequence[str], fits: Callable[[pa.DataType], bool]) -> str | None:
    return next((name for name in names if name in schema.names and fits(schema.field(name).type)), None)


def _holds_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds_names(kind: pa.DataType) -> bool:
    return _holds_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _holds_points(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and bool(pa.types.is_floating(kind.value_type))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def encode(rgb: npt.NDArray[np.uint8], image_format: str) -> bytes:
    """Return a picture's bytes: PNG (lossless), or JPEG of quality 95 without chroma subsampling.

    Args:
        rgb: (height, width, 3) uint8 RGB, at least one pixel each way.
        image_format: `png` or `jpeg`.

    Raises:
        ValueError: The format is another.
    """
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"Expected {' or '.join(IMAGE_FORMATS)}. Received: {image_format}")
    settings = []
    if image_format == "jpeg":
        settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    suffix = ".jpg" if image_format == "jpeg" else ".png"
    return cv2.imencode(suffix, rgb[..., ::-1], settings)[1].tobytes()


def decode(image: bytes) -> npt.NDArray[np.uint8]:
    """Return the picture in `image`, (height, width, 3) uint8 RGB.

    Raises:
        VideoUndecodableError: The bytes are no picture.
    """
    try:
        bgr = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # empty, or larger than OpenCV allows
        bgr = None
    if bgr is None:
        raise VideoUndecodableError("The picture cannot be decoded")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def resized(rgb: npt.NDArray[np.uint8], crop_px: int) -> npt.NDArray[np.uint8]:
    """Return a picture of a face as a crop: bilinear, as the seed's `cv2.resize`.

    Args:
        rgb: (height, width, 3) uint8 RGB, at least one pixel each way.
        crop_px: Side of the result, pixels.

    Returns:
        (crop_px, crop_px, 3) uint8 RGB.
    """
    crop = cv2.resize(rgb, (crop_px, crop_px), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(crop, dtype=np.uint8)
