"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from dfd_core.errors import ERROR_KINDS
from dfd_core.schemas import DUPLICATES, FACE_IMAGES, FACE_VIDEOS, FACES, PICTURES, SPANS, TRACKS, VIDEOS
from dfd_core.step_clock import STEPS

OUTPUTS = (Path(__file__).parent.parent / "docs" / "outputs.md").read_text()
TYPES = {
    "string": "string",
    "float": "float",
    "double": "double",
    "int32": "int32",
    "int64": "int64",
    "binary": "binary",
    "bool": "bool",
    "list<element: float>": "list",
    "list<item: float>": "list",
}
TABLES = [
    ("`videos`", VIDEOS),
    ("`faces`", FACES),
    ("`tracks`", TRACKS),
    ("`spans`", SPANS),
    ("`pictures`", PICTURES),
    ("Duplicates", DUPLICATES),
    ("`videos/` without scores", FACE_VIDEOS),
    ("`faces/` with pictures", FACE_IMAGES),
]


def section(title):
    return re.split(r"^##+ ", OUTPUTS.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


@pytest.mark.parametrize(("title", "schema"), TABLES)
def test_every_column_is_documented_in_order_with_its_type(title, schema):
    rows = re.findall(r"^\| `(\w+)`( !)? \| (\w+) \|", section(title), flags=re.M)
    assert [(name, kind, bool(required)) for name, required, kind in rows] == [
        (field.name, TYPES[str(field.type)], not field.nullable) for field in schema
    ]


def test_every_error_kind_is_documented():
    assert sorted(re.findall(r"^\| `(\w+)` \|", section("`error_kind`"), flags=re.M)) == list(ERROR_KINDS)


def test_every_stage_of_run_json_is_documented_in_order():
    stages = ["probe", *STEPS, "queue", "infer", "write"]
    (listed,) = re.findall(
        r"^\| `stage_seconds` \| .*: (.*), see below \|$", section("`run.json`"), flags=re.M
    )
    assert listed.split(", ") == stages
    assert re.findall(r"^\| `(\w+)` \|", section("`run.json`").split("| stage |")[1], flags=re.M) == stages
