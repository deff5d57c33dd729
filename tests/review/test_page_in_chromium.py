import json
import time

import pytest

from dfd_core.evaluation.truth import join_labels, read_scores
from dfd_core.review.page import write_page
from dfd_core.sources.videos import read_videos
from tests.clips import astronaut_frames, write_clip
from tests.review.answered_folder import write_answers

KEPT_NOTHING = """
    Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of six videos, one of which can be played, and the folder of scores beside it."""
    tmp_path = tmp_path_factory.mktemp("review")
    clip = write_clip(tmp_path / "a b#1.webm", astronaut_frames(75), codec="libvpx-vp9", options={"cpu-used": "8"})  # fmt: skip
    videos = [
        {"video_id": "clips/a b#1.webm", "uri": str(clip), "tracks": [[0.1, 0.2, 0.9, 0.95, 0.3, 0.9]], "width": 320,
         "height": 240, "label": "fake", "source": "desk"},
        {"video_id": "clips/two.mp4", "tracks": [[0.95] * 4, [0.3] * 4], "label": "real", "source": "wire"},
        {"video_id": "clips/c.mp4", "tracks": [[0.1] * 4], "label": "real", "source": "wire, west"},
        {"video_id": "clips/d.mp4", "tracks": [[0.2] * 4], "source": "desk"},
        {"video_id": "clips/e.mp4", "status": "no_face"},
        {"video_id": "clips/f.mp4", "status": "failed", "error_kind": "truncated", "error_message": "It ends early"},
    ]  # fmt: skip
    write_answers(tmp_path / "scores", videos, occlusion=True)
    write_page(str(tmp_path / "scores"), str(tmp_path / "page"))
    return tmp_path / "page" / "index.html"


def names(browser):
    return browser.run("[...document.querySelectorAll('.row .file')].map((name) => name.textContent)")


def choose(browser, selector, value):
    browser.run(
        f"(() => {{ const box = document.querySelector({json.dumps(selector)}); box.value = {json.dumps(value)};"
        " box.dispatchEvent(new Event(box.tagName === 'SELECT' ? 'change' : 'input')); })()"
    )


def test_it_opens_from_disk_and_asks_for_nothing_else(browser, page):
    browser.open(page.as_uri())
    assert names(browser) == ["two.mp4", "a b#1.webm", "d.mp4", "c.mp4", "f.mp4", "e.mp4"]
    browser.run("location.hash = 'video/1'")
    browser.until("document.querySelector('video')?.readyState >= 2")
    assert browser.complaints() == []
    asked = [address for address in browser.requests() if not address.startswith("data:")]
    folder = page.parent.parent.as_uri()
    assert asked and all(address.startswith(folder + "/") for address in asked)


def test_a_request_to_the_network_is_refused_by_the_page_itself(browser, page):
    browser.open(page.as_uri())
    browser.run("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/a.png' }))")
    browser.run(
        "document.head.append(Object.assign(document.createElement('script'), { src: 'http://127.0.0.1:9/a.js' }))"
    )
    browser.run("fetch('http://127.0.0.1:9/').catch(() => {})")
    browser.wait(lambda: len(browser.run("1") and browser.complaints()) >= 3, "three refusals")
    assert all("Content Security Policy" in text for text in browser.complaints())


def test_the_list_is_filtered_by_verdict_status_reason_label_own_columns_and_words(browser, page):
    browser.open(page.as_uri())
    browser.run("document.querySelector('.tab.real').click()")
    assert names(browser) == ["d.mp4", "c.mp4"]
    browser.run("document.querySelector('.tab').click()")
    for selector, value, expected in (
        ("#filter-status", "no_face", ["e.mp4"]),
        ("#filter-reason", "truncated", ["f.mp4"]),
        ("#filter-label", "real", ["two.mp4", "c.mp4"]),
    ):
        choose(browser, selector, value)
        assert names(browser) == expected
        choose(browser, selector, "")
    choose(browser, "#filter-column", "1")
    choose(browser, "#filter-value", "wire, west")
    assert names(browser) == ["c.mp4"]
    choose(browser, "#filter-column", "")
    choose(browser, "#search", "TWO wire")
    assert names(browser) == ["two.mp4"]
    assert browser.text("#found") == "1 of 6 videos"
    choose(browser, "#search", "")
    choose(browser, "#filter-order", "name")
    assert names(browser)[0] == "a b#1.webm"


def test_a_video_shows_its_tracks_spans_faces_and_facts_and_plays_from_a_span(browser, page):
    browser.open(page.as_uri() + "#video/1")
    browser.until("document.querySelector('video')?.readyState >= 2")
    assert "clips/" in browser.text("#video h2") and "a b#1.webm" in browser.text("#video h2")
    assert browser.run("document.querySelectorAll('.lane').length") == 1
    assert browser.run("document.querySelectorAll('.picture').length") == 4
    assert browser.text(".span-button").startswith("0:01–0:02.5")
    assert "Size as shown" in browser.text(".facts")
    browser.key("1")
    browser.until(
        "!document.querySelector('video').paused && document.querySelector('video').currentTime >= 1"
    )
    browser.until("document.querySelectorAll('.box').length === 1")
    browser.key("m")
    assert browser.run("getComputedStyle(document.querySelector('.map')).display") == "block"
    assert "no proof" in browser.text(".warning") and "No proof" in browser.text(".map-note")


def test_a_video_that_the_browser_cannot_play_says_where_it_is(browser, page):
    browser.open(page.as_uri() + "#video/0")
    browser.until("document.querySelector('.unplayable')")
    assert "/clips/two.mp4" in browser.text(".unplayable")
    assert browser.run("document.querySelectorAll('.lane').length") == 2


def test_the_keys_move_open_decide_and_explain(browser, page):
    browser.open(page.as_uri())
    browser.key("j")
    browser.key("f")
    assert browser.text('.row[aria-current="true"] .decision') == "fake"
    browser.key("Enter")
    browser.until("document.querySelector('#video h2 .file')?.textContent === 'a b#1.webm'")
    browser.key("j")
    browser.until("document.querySelector('#video h2 .file').textContent === 'd.mp4'")
    browser.key("u")
    assert browser.run("document.querySelector('.tab.unsure').getAttribute('aria-pressed')") == "true"
    browser.key("u")
    assert browser.run("document.querySelector('.tab.unsure').getAttribute('aria-pressed')") == "false"
    browser.key("Escape")
    browser.until("document.querySelector('#video').hidden")
    browser.key("?")
    assert "previous video" in browser.text("#keys")
    assert browser.text("#decided") == "1"


def test_decisions_outlive_the_page_and_are_a_manifest(browser, page, tmp_path):
    browser.open(page.as_uri() + "#video/1")
    browser.key("r")
    choose(browser, "#comment", 'lips, "odd"\nat 0:02')
    browser.run("document.querySelector('#comment').dispatchEvent(new Event('change'))")
    browser.open(page.as_uri())
    browser.key("f")  # two.mp4
    browser.key("j")
    browser.key("j")
    browser.key("u")  # d.mp4
    browser.downloads_to(tmp_path / "got")
    browser.key("d")
    file = tmp_path / "got" / "decisions.csv"
    browser.wait(lambda: file.exists() and file.stat().st_size, "the download")
    table = read_videos(str(file)).table.to_pylist()
    assert [(row["video_id"], row["label"] or None, row["decision"], row["source"]) for row in table] == [
        ("clips/two.mp4", "fake", "fake", "wire"),
        ("clips/a b#1.webm", "real", "real", "desk"),
        ("clips/d.mp4", None, "unsure", "desk"),
    ]
    assert table[1]["comment"] == 'lips, "odd"\nat 0:02'
    truth = join_labels(read_scores(str(page.parent.parent / "scores")), read_videos(str(file)).table)
    assert dict(zip(truth.videos["video_id"], truth.videos["is_fake"], strict=True)) == {
        "clips/two.mp4": True,
        "clips/a b#1.webm": False,
    }
    browser.run("localStorage.clear()")
    browser.open(page.as_uri())
    text = json.dumps(file.read_text())
    browser.run(
        f"(() => {{ const given = new DataTransfer(); given.items.add(new File([{text}], 'decisions.csv'));"
        " const box = document.querySelector('#file'); box.files = given.files; box.dispatchEvent(new Event('change')); })()"
    )
    browser.until("document.querySelector('#decided').textContent === '3'")
    assert "“lips" in browser.text('.row[data-rank="1"]')


def test_without_a_place_to_keep_decisions_the_page_says_so_and_still_downloads(browser, page):
    browser.open(page.as_uri(), before=KEPT_NOTHING)
    assert "keeps nothing" in browser.text("#notes")
    browser.key("f")
    assert browser.text("#decided") == "1"


def test_hostile_names_and_columns_are_shown_as_text(browser, tmp_path):
    bad = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"
    video = {"video_id": bad, "uri": f"/{bad}", "tracks": [[0.9]], "label": bad, bad: f"javascript:{bad}"}
    write_answers(tmp_path / "scores", [video, {"video_id": "\u202egnp.mp4", "status": "failed", "error_kind": bad, "error_message": bad}])  # fmt: skip
    write_page(str(tmp_path / "scores"), str(tmp_path / "page"))
    browser.open((tmp_path / "page" / "index.html").as_uri())
    assert bad.rsplit("/", 1)[1] in browser.text(".row")
    browser.run("location.hash = 'video/0'")
    browser.until("document.querySelector('.answer')")
    assert bad in browser.text(".facts")
    browser.run("location.hash = 'video/1'")
    browser.until("document.querySelector('#video h2').textContent.includes('gnp')")
    assert (
        browser.run("document.querySelector('#video h2 .file').tagName") == "BDI"
    )  # the name cannot turn what is around it
    assert browser.run("window.hacked") is None
    assert browser.run("document.querySelectorAll('script[src^=http], img[src=x]').length") == 0


def test_it_fits_a_phone_turns_dark_and_prints(browser, page):
    for address in (page.as_uri(), page.as_uri() + "#video/1"):
        browser.open(address)
        browser.resize(390, 844, dark=True)
        browser.until("document.querySelector('.row, .answer')")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        red, *_ = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert red < 60
        browser.resize(1280, 900)
        assert browser.pdf().startswith(b"%PDF")


def test_ten_thousand_videos_open_in_seconds(browser, tmp_path):
    videos = [
        {
            "video_id": f"archive/{number:05d}.mp4",
            "p_fake": (number % 997) / 997,
            "status": "scored",
            "source": f"s{number % 9}",
        }
        for number in range(10_000)
    ]
    write_answers(tmp_path / "scores", videos)
    write_page(str(tmp_path / "scores"), str(tmp_path / "page"))
    started_s = time.monotonic()
    browser.open((tmp_path / "page" / "index.html").as_uri())
    assert time.monotonic() - started_s < 10  # 0.6 s on an idle machine
    assert browser.text("#found") == "10,000 videos"
    assert len(names(browser)) == 50
    browser.run("[...document.querySelectorAll('#pages button')].at(-1).click()")
    assert "page 2 of 200" in browser.text("#pages")
