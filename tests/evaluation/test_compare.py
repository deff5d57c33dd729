"""Two runs compared, held to plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn import metrics as sk

from dfd_core.errors import ManifestError
from dfd_core.evaluation.compare import compare, read_run
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.sources.videos import read_videos
from tests.scored_folder import many_videos, write_scores

BOOTSTRAP = Bootstrap(resamples=300, seed=4)


def second(videos, *, seed=9, without=()):
    """The same videos scored by another model, somewhat better, the rows in another order."""
    rng = np.random.default_rng(seed)
    found = []
    for video in videos:
        sign = 1 if video["label"] == "fake" else -1
        faces = [float(np.clip(p + sign * 0.1 + rng.normal(0, 0.1), 0, 1)) for p in video["faces"]]
        found.append({**video, "faces": faces})
    return [found[i] for i in rng.permutation(len(found)) if found[i]["video_id"] not in without]


def runs(tmp_path, *, a=None, b=None, keep_labels=True):
    videos = many_videos() if a is None else a
    others = second(videos) if b is None else b
    drop = () if keep_labels else ("label", "group", "method", "dataset", "compression")
    folders = []
    for name, rows in (("a", videos), ("b", others)):
        (tmp_path / name).mkdir()
        plain = [{key: value for key, value in row.items() if key not in drop} for row in rows]
        folders.append(write_scores(tmp_path / name, plain))
    return [read_run(str(folder)) for folder in folders], videos, others


def by_hand(videos, others):
    """The decided videos of both: labels, scores and groups, in the order of the first run."""
    other = {video["video_id"]: video for video in others}
    rows = []
    for video in videos:
        twin = other.get(video["video_id"])
        if twin and video["faces"] and twin["faces"]:
            means = [np.float32(np.mean(entry["faces"])) for entry in (video, twin)]
            rows.append((video["label"] == "fake", *means, video["group"]))
    labels, first, last, groups = zip(*rows, strict=True)
    return np.array(labels), np.array(first, float), np.array(last, float), np.array(groups)


def test_differences_and_their_intervals_are_those_of_a_plain_paired_bootstrap(tmp_path):
    (a, b), videos, others = runs(tmp_path)
    found = compare(a, b, None, bootstrap=BOOTSTRAP)
    labels, first, last, groups = by_hand(videos, others)
    auc = found.changes["roc_auc"]
    assert auc.a == pytest.approx(sk.roc_auc_score(labels, first))
    assert auc.b == pytest.approx(sk.roc_auc_score(labels, last))
    assert auc.difference.value == pytest.approx(auc.b - auc.a)
    assert found.num_labelled == len(labels)
    names = np.unique(groups)
    assert found.num_groups == len(names)
    rng = np.random.default_rng(BOOTSTRAP.seed)  # whole groups with replacement, the same for both runs
    differences = {"roc_auc": [], "accuracy": [], "brier": []}
    for draw in rng.integers(len(names), size=(BOOTSTRAP.resamples, len(names))):
        chosen = np.concatenate([np.flatnonzero(groups == names[number]) for number in draw])
        truth, before, after = labels[chosen], first[chosen], last[chosen]
        differences["roc_auc"].append(sk.roc_auc_score(truth, after) - sk.roc_auc_score(truth, before))
        right = [((scores >= 0.5) == truth).mean() for scores in (before, after)]
        differences["accuracy"].append(right[1] - right[0])
        differences["brier"].append(((after - truth) ** 2).mean() - ((before - truth) ** 2).mean())
    for name, drawn in differences.items():
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert found.changes[name].difference.low == pytest.approx(low, abs=1e-6)
        assert found.changes[name].difference.high == pytest.approx(high, abs=1e-6)
    apart = auc.difference.high - auc.difference.low
    assert apart < 0.2


def test_flips_are_the_videos_with_another_verdict_and_opposites_come_first(tmp_path):
    def video(name, p_fake, verdict):
        return {"video_id": name, "faces": [p_fake], "verdict": verdict, "label": "fake", "group": name}

    a = [
        video("same", 0.9, "fake"),
        video("small", 0.6, "fake"),
        video("wide", 0.1, "real"),
        video("soft", 0.9, "fake"),
    ]
    b = [
        video("same", 0.8, "fake"),
        video("small", 0.4, "real"),
        video("wide", 0.9, "fake"),
        video("soft", 0.2, "uncertain"),
    ]
    (one, two), *_ = runs(tmp_path, a=a, b=b)
    found = compare(one, two, None, bootstrap=BOOTSTRAP)
    assert [(flip.video_id, flip.is_opposite) for flip in found.flips] == [
        ("wide", True),
        ("small", True),
        ("soft", False),
    ]
    assert found.flips[0].p_fake_a == pytest.approx(0.1)
    assert {flip.label for flip in found.flips} == {"fake"}
    assert found.verdicts == {
        ("fake", "fake"): 1,
        ("fake", "real"): 1,
        ("real", "fake"): 1,
        ("fake", "uncertain"): 1,
    }


def test_without_labels_the_shift_of_scores_is_compared_and_nothing_else(tmp_path):
    (a, b), videos, others = runs(tmp_path, keep_labels=False)
    found = compare(a, b, None, bootstrap=BOOTSTRAP)
    assert (found.changes, found.num_labelled) == ({}, 0)
    shift = next(shift for shift in found.shifts if shift.name == "p_fake")
    first, last = (
        np.array([np.float32(np.mean(video["faces"])) for video in rows if video["faces"]], float)
        for rows in (videos, others)
    )
    assert (shift.a.num_videos, shift.b.num_videos, shift.num_paired) == (len(first), len(last), len(first))
    assert shift.a.mean == pytest.approx(first.mean())
    assert shift.b.quantiles == pytest.approx(np.quantile(last, (0.05, 0.25, 0.5, 0.75, 0.95)))
    assert shift.distance == pytest.approx(ks_2samp(first, last).statistic)
    assert shift.paired.value == pytest.approx(last.mean() - first.mean())
    assert shift.paired.low < shift.paired.value < shift.paired.high
    assert {flip.label for flip in found.flips} == {None}


def test_measures_that_both_runs_have_are_compared(tmp_path):
    sharp = [{**video, "num_faces": len(video["faces"]), "duration_s": 10.0} for video in many_videos()]
    blurred = [{**video, "duration_s": 5.0} for video in sharp]
    (a, b), *_ = runs(tmp_path, a=sharp, b=blurred)
    shifts = {shift.name: shift for shift in compare(a, b, None, bootstrap=BOOTSTRAP).shifts}
    assert shifts["duration_s"].paired.value == -5
    assert shifts["duration_s"].distance == 1
    assert shifts["num_faces"].distance == 0


def test_only_videos_of_both_runs_enter_and_those_left_out_are_counted(tmp_path):
    videos = many_videos()
    gone = {video["video_id"] for video in videos[:30]}
    (a, b), _, others = runs(tmp_path, a=videos, b=second(videos, without=gone))
    found = compare(a, b, None, bootstrap=BOOTSTRAP)
    assert found.num_videos == (120, 90, 90)
    assert found.num_labelled == len(by_hand(videos, others)[0])
    assert [note.kind for note in found.warnings] == ["undecided"]


def test_runs_of_different_videos_have_shifts_and_say_so(tmp_path):
    renamed = [{**video, "video_id": f"other/{video['video_id']}"} for video in many_videos(seed=8)]
    (a, b), *_ = runs(tmp_path, a=many_videos(), b=renamed)
    found = compare(a, b, None, bootstrap=BOOTSTRAP)
    assert found.num_videos[2] == 0
    assert found.flips == ()
    assert next(iter(found.shifts)).paired.value is None
    assert "no_common_videos" in [note.kind for note in found.warnings]


def test_labels_of_a_manifest_count_and_unusable_ones_are_refused(tmp_path):
    (a, b), videos, _ = runs(tmp_path, keep_labels=False)
    labels = tmp_path / "labels.csv"
    lines = [
        f"/{video['video_id']},{video['video_id']},{video['label']},{video['group']}" for video in videos[:60]
    ]
    labels.write_text("\n".join(["uri,video_id,label,group", *lines]))
    found = compare(a, b, read_videos(str(labels)).table, bootstrap=BOOTSTRAP)
    assert found.num_labelled == sum(bool(video["faces"]) for video in videos[:60])
    labels.write_text("uri,video_id\na.mp4,a\n")
    with pytest.raises(ManifestError, match="label"):
        compare(a, b, read_videos(str(labels)).table, bootstrap=BOOTSTRAP)


def test_few_groups_give_differences_without_intervals(tmp_path):
    (a, b), *_ = runs(tmp_path, a=many_videos(8))
    change = compare(a, b, None, bootstrap=BOOTSTRAP).changes["brier"]
    assert change.difference.value is not None
    assert change.difference.low is None
    assert [note.kind for note in change.difference.notes] == ["too_few_groups"]
