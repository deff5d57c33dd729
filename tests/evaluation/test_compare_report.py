"""The comparison as JSON and as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dfd_core.evaluation.compare import compare, read_run
from dfd_core.evaluation.compare_report import comparison_html, comparison_json
from dfd_core.evaluation.intervals import Bootstrap
from tests.evaluation.test_compare import runs
from tests.scored_folder import many_videos

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text()
SOURCES = {"a": "/old", "b": "/new", "labels": None}
HOSTILE = "<script>alert(1)</script>&\u202e.mp4"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    videos = many_videos(60)
    hostile = {"video_id": HOSTILE, "label": "fake", "group": "x"}
    before = [*videos, {**hostile, "faces": [0.9], "verdict": "fake"}]
    after = [*videos, {**hostile, "faces": [0.1], "verdict": "real"}]
    (a, b), *_ = runs(tmp_path_factory.mktemp("runs"), a=before, b=after)
    return compare(a, b, None, bootstrap=Bootstrap(resamples=50)), a, b


@pytest.fixture(scope="module")
def html(compared):
    comparison, a, b = compared
    return comparison_html(comparison, SOURCES, a=a, b=b)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    page = Page()
    page.feed(html)
    return page


def test_the_page_loads_nothing_and_runs_nothing(html):
    page = parsed(html)
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert not [attrs for _, attrs in page.tags if {"src", "onclick", "onload"} & attrs.keys()]
    assert "url(http" not in html
    assert "default-src 'none'" in html
    assert len(page.ids) == len(set(page.ids))


def test_hostile_names_are_text_and_the_flip_stands_on_the_page(html):
    page = parsed(html)
    assert HOSTILE in page.text
    assert "<script>alert" not in html


def test_every_figure_and_shift_of_the_numbers_is_on_the_page(compared, html):
    comparison = compared[0]
    text = " ".join(parsed(html).text)
    for change in comparison.changes.values():
        if change.a is not None:
            assert f"{change.a:.3f}" in text
    for shift in comparison.shifts:
        assert shift.name in text


def test_the_numbers_are_json_that_any_reader_takes_and_documented(compared):
    text = comparison_json(compared[0], SOURCES)
    assert text == comparison_json(compared[0], SOURCES)
    values = json.loads(text)
    flip = values["flips"][0]
    assert flip["video_id"] == HOSTILE
    names = {*values, *flip, *values["changes"]["eer"], *values["shifts"]["p_fake"], *values["shifts"]}
    assert [name for name in sorted(names) if f"`{name}`" not in DOCUMENT] == []
    source = Path(compare.__code__.co_filename).read_text()
    kinds = re.findall(r"Note\(\s*\"(\w+)\"", source)
    assert kinds
    assert [kind for kind in kinds if f"`{kind}`" not in DOCUMENT] == []


def test_runs_without_labels_or_common_videos_have_a_page_too(tmp_path):
    renamed = [{**video, "video_id": f"other/{video['video_id']}"} for video in many_videos(20)]
    (a, b), *_ = runs(tmp_path, a=many_videos(20), b=renamed, keep_labels=False)
    comparison = compare(a, b, None, bootstrap=Bootstrap(resamples=20))
    assert "there are no figures" in comparison_html(comparison, SOURCES, a=a, b=b)
    assert json.loads(comparison_json(comparison, SOURCES))["changes"] == {}
    assert read_run(a.name).name == a.name
