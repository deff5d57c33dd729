import numpy as np
import pyarrow as pa
import pytest

from dfd_core.errors import ManifestError, VideoUndecodableError
from dfd_core.faces.images import FaceColumns, decode, encode, resized

RGB = np.random.default_rng(2).integers(0, 256, (23, 37, 3), dtype=np.uint8)


def test_png_gives_back_the_very_pixels():
    np.testing.assert_array_equal(decode(encode(RGB, "png")), RGB)


def test_red_is_still_red_after_jpeg():
    red = np.full((16, 16, 3), (250, 5, 5), np.uint8)
    assert abs(decode(encode(red, "jpeg")).astype(int) - red).max() < 5


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="png or jpeg"):
        encode(RGB, "webp")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF of no kind", encode(RGB, "png")[:20]])
def test_what_is_no_picture_is_undecodable(content):
    with pytest.raises(VideoUndecodableError):
        decode(content)


def test_a_crop_has_its_size_whatever_the_picture_has():
    assert resized(RGB, 16).shape == (16, 16, 3)
    assert resized(RGB[:1, :1], 16).shape == (16, 16, 3)


TEXT, NUMBER, BYTES = pa.string(), pa.int64(), pa.binary()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": TEXT, "label": TEXT, "group": TEXT, "jpeg": BYTES}, ("jpeg", "name", "label", "group")),
        ({"video_id": TEXT, "name": TEXT, "image": BYTES}, ("image", "video_id", None, None)),
        ({"path": pa.large_string(), "image": pa.struct([("bytes", BYTES)])}, ("image", "path", None, None)),
        ({"id": pa.dictionary(pa.int32(), TEXT), "png": pa.large_binary()}, ("png", "id", None, None)),
        ({"name": TEXT, "video_id": NUMBER, "png": BYTES}, ("png", "video_id", None, None)),
        ({"id": NUMBER, "path": TEXT, "group": NUMBER, "png": BYTES}, ("png", "path", None, "group")),
        ({"id": NUMBER, "png": BYTES}, ("png", "id", None, None)),
    ],
)
def test_columns_are_found_by_name_and_type(fields, expected):
    found = FaceColumns.of(pa.schema(list(fields.items())))
    assert (found.image, found.video_id, found.label, found.group) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"name": TEXT, "image": TEXT},
        {"image": BYTES},
        {"uri": TEXT},
        {"name": TEXT, "video_id": BYTES, "image": BYTES},
    ],
)
def test_a_table_without_pictures_or_names_is_refused(fields):
    with pytest.raises(ManifestError, match="Expected a"):
        FaceColumns.of(pa.schema(list(fields.items())))


def test_names_in_numbers_become_text_and_what_is_missing_stays_missing():
    table = pa.table({"video_id": [12, 7], "group": [0.0, None], "image": [b"x", b"y"]})
    named = FaceColumns.of(table.schema).with_text_names(table)
    assert named.to_pydict() == {"video_id": ["12", "7"], "group": ["0", None], "image": [b"x", b"y"]}
