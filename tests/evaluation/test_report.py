"""The page: whole, self-contained, and safe from what is in the data. The numbers: documented, and never NaN."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dfd_core.evaluation import plots
from dfd_core.evaluation.definitions import DEFINITIONS
from dfd_core.evaluation.evaluation import evaluate
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.evaluation.metrics_json import metrics_json
from dfd_core.evaluation.report import report_html
from dfd_core.evaluation.scored import Confusion, Scored
from dfd_core.evaluation.thresholds import ThresholdRule
from dfd_core.evaluation.truth import join_labels, read_scores
from tests.scored_folder import many_videos, write_scores

HOSTILE = '"><script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>\u202e'
SOURCES = {"scores": f"/scores/{HOSTILE}", "labels": None}
DOCUMENT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps elements, attributes, ids and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def evaluated(folder, *, rule=None):
    scores = read_scores(str(folder))
    return evaluate(
        scores, join_labels(scores, None), rule=rule and ThresholdRule.parse(rule), bootstrap=Bootstrap(20)
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    videos = many_videos()
    videos[0] |= {"video_id": HOSTILE, "label": None}
    for video in videos:
        video["method"] = video["method"] and f"{HOSTILE} {video['method']}"
    model = {"model_id": HOSTILE, "trained": False, "threshold": 0.5}
    return evaluated(write_scores(tmp_path_factory.mktemp("hostile"), videos, model=model), rule="eer")


@pytest.fixture(scope="module")
def html(hostile):
    return report_html(hostile, SOURCES)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    """An evaluation that defines no figure at all."""
    videos = [{"video_id": f"v{n}", "label": "fake", "status": "failed"} for n in range(3)]
    return evaluated(write_scores(tmp_path_factory.mktemp("nothing"), videos))


def test_the_page_loads_nothing(html, page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "image", "base", "form"} & {
        name for name, _ in page.elements
    }
    for name, attributes in page.elements:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert value.startswith("#"), (name, key, value)
            assert not key.startswith("on")
            assert "url(" not in (value or "").replace("url(#", "")
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    # The only address in the whole text is the hostile name's, as text.
    assert set(re.findall(r"\w+://[\w.]+", html)) == {"https://evil.example"}
    policy = next(m["content"] for m in page.named("meta") if m.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_hostile_names_are_shown_as_text_only(html, page) -> None:
    assert "<script" not in html
    assert "<img" not in html
    assert page.text.count(HOSTILE) >= 4  # the title, the heading, the scores' address, the methods


def test_every_id_is_unique_and_every_link_has_its_target(page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a[key][1:] for _, a in page.elements for key in ("href",) if a.get(key, "").startswith("#")}
    targets |= set(
        re.findall(r"url\(#([^)]+)\)", " ".join(v or "" for _, a in page.elements for v in a.values()))
    )
    assert targets
    assert targets <= set(ids)


def test_the_page_fits_a_phone_and_the_dark(html, page) -> None:
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert "prefers-color-scheme: dark" in html
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(svgs) == 10
    for svg in svgs:
        assert "currentColor" in svg
        assert not {plots.INK, plots.REAL, plots.FAKE, "#000000", "#ffffff"} & set(
            re.findall(r"#[0-9a-f]{6}", svg)
        )


def test_the_page_can_be_listened_to(page) -> None:
    assert page.named("html")[0]["lang"] == "en"
    pictures = [a for name, a in page.elements if name == "div" and a.get("role") == "img"]
    assert len(pictures) == 10
    assert all(re.search(r"\d", a["aria-label"]) or "spread" in a["aria-label"] for a in pictures)
    assert all(a.get("aria-hidden") == "true" for a in page.named("svg"))
    assert all(a.get("scope") in ("col", "row") for a in page.named("th"))
    assert all("tabindex" in a and "aria-label" in a for _, a in page.elements if a.get("role") == "region")


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_contrast_in_both_modes(html) -> None:
    light, dark = html.split("@media (prefers-color-scheme: dark)")
    for style in (light, dark):
        colors = dict(re.findall(r"--(\w+): (#\w{6})", style.split("}")[0]))
        assert len(colors) == 8
        for ground in ("ground", "panel", "warn"):
            for ink in ("ink", "soft", "real", "fake"):
                dim, bright = sorted((luminance(colors[ground]), luminance(colors[ink])))
                assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ground, ink)  # WCAG 2, level AA


def test_what_the_reader_must_know_stands_on_the_page(hostile, page) -> None:
    assert [note.kind for note in hostile.warnings] == ["untrained", "threshold_chosen_here", "unlabelled"]
    assert "The model is untrained" in page.text
    assert "chosen by eer on the very videos that are judged" in page.text
    assert "undecided: no_face" in page.text
    for definition in DEFINITIONS.values():
        assert definition.title in page.text
        assert definition.text in page.text


def test_every_value_of_the_page_is_that_of_the_numbers(hostile, page) -> None:
    for part in hostile.parts:
        for found in part.measured.figures.values():
            if found.value is not None:
                assert f"{found.value:.3f}" in page.text
            if found.low is not None:
                assert f"{found.low:.3f}–{found.high:.3f}" in page.text


def test_a_page_without_a_single_figure_says_why(nothing) -> None:
    page = Page(report_html(nothing, {"scores": "s", "labels": "l"}))
    assert "0 items; at least 4 are needed" in page.text
    assert "undecided: failed" in page.text
    assert len(page.named("svg")) == 2  # the two confusion matrices, empty


def test_numbers_are_json_that_any_reader_takes(hostile, nothing) -> None:
    def refuse(name):
        raise AssertionError(name)

    for evaluation in (hostile, nothing):
        text = metrics_json(evaluation, SOURCES)
        assert text == metrics_json(evaluation, SOURCES)
        values = json.loads(text, parse_constant=refuse)
        assert [(p["level"], p["by"]) for p in values["parts"][:2]] == [("video", None), ("face", None)]
        assert all(part["figures"].keys() == DEFINITIONS.keys() for part in values["parts"])
    values = json.loads(metrics_json(hostile, SOURCES))
    whole = values["parts"][0]
    assert whole["confusion"].keys() == set(Confusion.__dataclass_fields__)
    assert whole["coverage"]["undecided"]["no_face"] == {"real": 4, "fake": 0}
    assert values["join"]["unlabelled"] == 1
    assert values["threshold"]["chosen_here"] is True


def test_everything_in_the_numbers_is_documented(hostile) -> None:
    values = json.loads(metrics_json(hostile, SOURCES))
    names = {
        *values,
        *values["parts"][0],
        *values["threshold"],
        *values["bootstrap"],
        *values["join"],
        *DEFINITIONS,
    }
    missing = [name for name in sorted(names) if f"`{name}`" not in DOCUMENT]
    assert missing == []
    source = "".join(
        Path(f"{Path(plots.__file__).parent}/{name}.py").read_text() for name in ("intervals", "cautions")
    )
    kinds = re.findall(r"Note\(\s*\"(\w+)\"", source)
    assert len(kinds) > 12
    assert [kind for kind in kinds if f"`{kind}`" not in DOCUMENT] == []


# --- pictures -----------------------------------------------------------------------------------------------------


def test_a_picture_is_the_same_each_time_and_its_ids_are_its_own() -> None:
    scored = Scored.of([False, True] * 20, np.linspace(0, 1, 40))
    first, second = (plots.to_svg(plots.roc(scored, threshold=0.5), prefix="a") for _ in range(2))
    assert first == second
    assert re.findall(r'id="(?!a-)', first) == []
    assert "http" not in first


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.5
    svg = plots.to_svg(plots.roc(Scored.of(labels, rng.random(50_000)), threshold=0.5), prefix="a")
    assert len(svg) < 100_000


def test_pictures_take_a_single_class_and_an_empty_matrix() -> None:
    one = Scored.of([True] * 3, [0.0, 0.5, 1.0])
    for figure in (
        plots.histogram(one, threshold=0.5),
        plots.calibration(one),
        plots.confusion_map(Confusion(0, 0, 0, 0)),
    ):
        assert plots.to_svg(figure, prefix="p").startswith("<svg")
