import re

import pytest

from dfd_core.errors import OutputError
from dfd_core.review.case import write_case
from tests.review.answered_folder import write_answers

VIDEO = {
    "video_id": "desk/a b.mp4",
    "tracks": [[0.1, 0.9, 0.95, 0.2], [0.1] * 4],
    "label": "fake",
    "duration_s": 2.0,
}
CARD = {
    "threshold_low": 0.2,
    "threshold_high": 0.9,
    "verdict_rule": "at most 2 % of the validation's real videos lie above",
    "limits": {"min_side_px": 48},
    "training": {"crops": {"dfdc": {"real": 12, "fake": 34}}},
    "metrics": {"validation": {"auc": 0.971}},
    "licence": "research only",
}


def case(tmp_path, video=VIDEO, **run):
    folder = write_answers(tmp_path / "s", [video], occlusion=True, **run)
    write_case(str(folder), video["video_id"], str(tmp_path / "new" / "case.html"))
    return (tmp_path / "new" / "case.html").read_text()


def with_card(card):
    model = {"model_id": "tiny@0123456789ab", "trained": True, "threshold": 0.5, "sha256": "0" * 64}
    return {"model": model | {"card": card}}


def test_it_says_what_was_found_in_whom_and_when(tmp_path):
    html = case(tmp_path)
    assert "Track 0: fake" in html and "Track 1: real" in html
    assert "0:00.5 to 0:01 (score 0.95, 2 faces)" in html
    assert html.count("<figure>") == 8
    assert html.count("no proof") >= 8
    assert "proves neither that a video is altered nor that it is genuine" in html


def test_it_claims_no_more_than_the_card(tmp_path):
    with_rates = case(tmp_path / "a", **with_card(CARD))
    for stated in ("at most 2 % of the validation", "0.2 and 0.9", "0.971", "research only", "min_side_px"):
        assert stated in with_rates
    without = case(tmp_path / "b", **with_card({"metrics": {}}))
    assert "states no error rate" in without and "states no measured errors" in without
    assert "%" not in re.sub(r"<style>.*</style>", "", without, flags=re.S).replace("100 %", "")
    assert "nothing is known of its training" in case(tmp_path / "c")


def test_an_untrained_model_and_a_video_without_a_face_say_so(tmp_path):
    untrained = {"model_id": "untrained:x", "trained": False, "threshold": 0.5, "sha256": None}
    html = case(tmp_path, {"video_id": "e.mp4", "status": "no_face"}, model=untrained)
    assert "untrained" in html and "Nothing is said about the video" in html


def test_the_hash_of_the_file_and_of_the_list_of_hashes_are_named(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "MANIFEST.sha256").write_text("")
    html = case(tmp_path)
    assert "not recorded" in html
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" in html  # of no bytes


def test_what_comes_from_outside_is_text(tmp_path):
    bad = "<script>alert(1)</script>"
    html = case(
        tmp_path,
        VIDEO | {"video_id": bad, "note": bad},
        **with_card({"verdict_rule": bad, "training": {bad: bad}}),
    )
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html


def test_a_video_that_is_not_there_is_one_line(tmp_path):
    folder = write_answers(tmp_path / "s", [VIDEO])
    with pytest.raises(OutputError, match="holds no video 'x'"):
        write_case(str(folder), "x", str(tmp_path / "case.html"))


def test_it_opens_and_prints_in_a_browser_and_asks_for_nothing(tmp_path, browser):
    case(tmp_path, **with_card(CARD))
    address = (tmp_path / "new" / "case.html").as_uri()
    browser.open(address, ready="document.readyState === 'complete'")
    assert browser.complaints() == []
    assert [asked for asked in browser.requests() if not asked.startswith("data:")] == [address]
    assert browser.run(
        "[...document.querySelectorAll('svg.lane')].every((chart) => chart.getBoundingClientRect().height > 40)"
    )
    assert browser.pdf().startswith(b"%PDF")
    browser.resize(390, 844)
    assert browser.run("document.documentElement.scrollWidth") <= 390
