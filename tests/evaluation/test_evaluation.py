"""Scores joined with labels: who is compared with whom, and who is only counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ManifestError, OutputError, RequestError
from dfd_core.evaluation import populations
from dfd_core.evaluation.evaluation import evaluate
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.evaluation.metrics import figures
from dfd_core.evaluation.scored import Scored
from dfd_core.evaluation.thresholds import ThresholdRule
from dfd_core.evaluation.truth import join_labels, read_scores
from tests.scored_folder import many_videos, write_scores


def judged(folder, manifest=None, *, rule=None):
    scores = read_scores(str(folder))
    labels = manifest and pa.Table.from_pylist(manifest)
    rule = rule and ThresholdRule.parse(rule)
    return evaluate(scores, join_labels(scores, labels), rule=rule, bootstrap=Bootstrap(20))


def kinds(evaluation):
    return [note.kind for note in evaluation.warnings]


def part(evaluation, level, by, value):
    found = [p for p in evaluation.parts if (p.level, p.by, p.value) == (level, by, value)]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_scores(tmp_path_factory.mktemp("scores"), many_videos(), files=3)


def test_the_figures_are_those_of_the_decided_videos_and_of_their_faces(archive) -> None:
    videos = [video for video in many_videos() if video["faces"]]
    evaluation = judged(archive)
    expected = {
        "video": Scored.of([v["label"] == "fake" for v in videos], [np.mean(v["faces"]) for v in videos]),
        "face": Scored.of(
            [v["label"] == "fake" for v in videos for _ in v["faces"]],
            [p for v in videos for p in v["faces"]],
        ),
    }
    for level, scored in expected.items():
        found = evaluation.whole(level).measured
        assert {name: f.value for name, f in found.figures.items()} == pytest.approx(figures(scored, 0.5))
        assert (found.num_real, found.num_fake) == (scored.num_real, scored.num_fake)
    assert kinds(evaluation) == []


def test_undecided_videos_are_counted_and_never_scored(tmp_path) -> None:
    decided = [
        {"video_id": f"d{n}", "faces": [0.9 if n % 2 else 0.1], "label": "fake" if n % 2 else "real"}
        for n in range(8)
    ]
    # Half a dozen undecided fakes: scored as 0.5 they would halve the accuracy and ruin the order.
    undecided = [{"video_id": f"u{n}", "label": "fake", "status": "failed"} for n in range(6)]
    undecided += [{"video_id": "n0", "label": "real", "status": "no_face"}]
    half = [{"video_id": "p", "faces": [0.8], "status": "partial", "label": "fake"}]
    evaluation = judged(write_scores(tmp_path, decided + undecided + half))
    video = evaluation.whole("video")
    assert video.measured.figures["accuracy"].value == 1.0
    assert video.measured.figures["roc_auc"].value == 1.0
    assert (video.measured.num_real, video.measured.num_fake) == (4, 5)
    assert video.coverage.decided == {"real": 4, "fake": 5}
    assert video.coverage.undecided == {"no_face": {"real": 1, "fake": 0}, "failed": {"real": 0, "fake": 6}}
    assert video.coverage.share == 9 / 16


def test_without_one_decided_video_everything_is_none_and_counted(tmp_path) -> None:
    videos = [{"video_id": f"v{n}", "label": "fake" if n % 2 else "real"} for n in range(6)]
    evaluation = judged(write_scores(tmp_path, videos))
    assert all(f.value is None for p in evaluation.parts for f in p.measured.figures.values())
    assert evaluation.whole("video").coverage.share == 0


def test_a_method_is_compared_with_all_reals_of_its_datasets(tmp_path) -> None:
    def video(number, label, method, dataset, compression="c23"):
        return {
            "video_id": f"v{number}",
            "faces": [number / 20],
            "label": label,
            "method": method,
            "dataset": dataset,
            "compression": compression,
        }

    videos = [
        video(1, "real", None, "one"),
        video(2, "real", "original", "one", "c40"),
        video(3, "real", None, "two"),
        video(4, "fake", "swap", "one"),
        video(5, "fake", "swap", "one", "c40"),
        video(6, "fake", "blend", "two"),
        video(7, "fake", "blend", None),
        video(8, "real", "", None),
        video(9, "fake", None, "one"),
    ]
    evaluation = judged(write_scores(tmp_path, videos))
    sizes = {
        (p.by, p.value): (p.measured.num_real, p.measured.num_fake)
        for p in evaluation.parts
        if p.level == "video"
    }
    assert sizes == {
        (None, None): (4, 5),
        ("method", "swap"): (2, 2),
        ("method", "blend"): (2, 2),  # the real of dataset two, and the one that names no dataset
        ("dataset", "one"): (2, 3),
        ("dataset", "two"): (1, 1),
        ("compression", "c23"): (3, 4),
        ("compression", "c40"): (1, 1),
    }
    assert "all reals of dataset 'one'" in part(evaluation, "face", "method", "swap").contents


def test_parts_add_up_and_count_their_own_undecided(archive) -> None:
    evaluation = judged(archive)
    for level in ("video", "face"):
        whole = evaluation.whole(level)
        for by in ("dataset", "compression"):
            parts = [p for p in evaluation.parts if (p.level, p.by) == (level, by)]
            assert sum(p.measured.num_fake for p in parts) == whole.measured.num_fake
            assert sum(p.measured.num_real for p in parts) == whole.measured.num_real
            assert sum(p.coverage.num_undecided for p in parts) == whole.coverage.num_undecided == 8


def test_only_the_largest_parts_of_a_column_are_measured(archive, monkeypatch) -> None:
    monkeypatch.setattr(populations, "MAX_PARTS", 1)
    evaluation = judged(archive)
    assert {p.value for p in evaluation.parts if p.by == "compression"} == {"c40"}
    assert kinds(evaluation).count("parts_left_out") == 3


def test_groups_are_resampled_together_and_a_video_without_one_alone(tmp_path) -> None:
    # A group named like a video is still another group.
    videos = [
        {"video_id": f"v{n}", "faces": [n / 10, n / 20], "label": "fake" if n % 2 else "real", "group": group}
        for n, group in enumerate(["a", "a", "v3", None, None, "b"])
    ]
    evaluation = judged(write_scores(tmp_path, videos))
    assert evaluation.whole("video").measured.num_groups == 5
    assert evaluation.whole("face").measured.num_groups == 5
    assert evaluation.scored["face"].group.tolist().count(0) == 4


# --- labels -------------------------------------------------------------------------------------------------------


def plain_videos(count=6):
    return [{"video_id": f"v{n}", "faces": [n / 10]} for n in range(count)]


def labels(count=6, **own):
    return [{"video_id": f"v{n}", "label": "fake" if n % 2 else "real", **own} for n in range(count)]


def test_labels_of_a_manifest_are_joined_by_video_id_in_any_order(tmp_path) -> None:
    folder = write_scores(tmp_path, plain_videos())
    evaluation = judged(folder, list(reversed(labels())))
    assert evaluation.scored["video"].is_fake.tolist() == [False, True] * 3
    assert evaluation.scored["video"].p_fake.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_only_the_videos_of_the_manifest_are_judged(tmp_path) -> None:
    folder = write_scores(tmp_path, [video | {"label": "fake"} for video in plain_videos(8)])
    evaluation = judged(folder, [*labels(4), {"video_id": "v5", "label": None}])
    assert evaluation.whole("video").coverage.decided == {"real": 2, "fake": 2}
    assert evaluation.truth.num_unlabelled == 4


def test_what_the_manifest_lacks_comes_from_the_scores_and_what_it_has_counts(tmp_path) -> None:
    folder = write_scores(tmp_path, [video | {"group": "g", "dataset": "old"} for video in plain_videos()])
    evaluation = judged(folder, labels(dataset="new"))
    assert evaluation.whole("video").measured.num_groups == 1
    assert {p.value for p in evaluation.parts if p.by == "dataset"} == {"new"}


def test_labels_without_scores_and_contradictions_are_named(tmp_path) -> None:
    folder = write_scores(tmp_path, [video | {"label": "real"} for video in plain_videos()])
    evaluation = judged(folder, [*labels(), {"video_id": "gone.mp4", "label": "real"}])
    assert evaluation.truth.without_scores == ("gone.mp4",)
    assert evaluation.truth.contradictory == ("v1", "v3", "v5")
    assert evaluation.whole("video").measured.num_fake == 3  # the manifest counts
    texts = {note.kind: note.text for note in evaluation.warnings}
    assert "'gone.mp4'" in texts["labels_without_scores"]
    assert "'v1', 'v3', 'v5'" in texts["contradictory_labels"]
    assert "no_groups" in texts


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (None, "carry no labels"),
        ([{"video_id": "v1"}], "Expected a column 'label'"),
        ([{"video_id": "a/v1", "label": "real"}], r"the labels name 'a/v1', the scores 'v0'"),
        ([{"video_id": "v1", "label": ""}], "No scored video has a label"),
        ([{"video_id": "v1", "label": "real", "method": ["x"]}], "Expected text"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, manifest, complaint) -> None:
    folder = write_scores(tmp_path, plain_videos())
    with pytest.raises(ManifestError, match=complaint):
        judged(folder, manifest)


# --- threshold and warnings ---------------------------------------------------------------------------------------


def test_the_threshold_is_the_runs_unless_another_is_given_or_chosen(archive, tmp_path) -> None:
    run = judged(archive)
    assert (run.threshold.value, run.threshold.source) == (0.5, "run")
    given = judged(archive, rule="0.7")
    assert (given.threshold.value, given.threshold.source, given.threshold.chosen_here) == (
        0.7,
        "given",
        False,
    )
    chosen = judged(archive, rule="youden")
    assert chosen.threshold.chosen_here
    assert kinds(chosen) == ["threshold_chosen_here"]
    best, own = (
        e.whole("video").measured.figures["balanced_accuracy"].value for e in (chosen, judged(archive))
    )
    assert best >= own
    other = write_scores(tmp_path, many_videos(), threshold=0.6)  # as jobs/aggregate.py --threshold notes it
    assert judged(other).threshold.value == 0.6


def test_an_untrained_an_unfinished_and_an_inconsistent_run_are_said_to_be_so(tmp_path) -> None:
    model = {"model_id": "untrained:x", "trained": False, "threshold": 0.4}
    folder = write_scores(tmp_path, many_videos(), model=model, outcome="running")
    assert kinds(judged(folder)) == ["untrained", "unfinished", "verdicts_differ"]


def test_few_groups_are_said_to_be_few(tmp_path) -> None:
    assert kinds(judged(write_scores(tmp_path, many_videos(40)))) == ["few_groups"]


def test_a_rule_that_the_videos_do_not_allow_is_refused(tmp_path) -> None:
    folder = write_scores(tmp_path, [video | {"label": "fake"} for video in plain_videos()])
    with pytest.raises(RequestError, match="0 real"):
        judged(folder, rule="eer")


# --- folders that are none ----------------------------------------------------------------------------------------


def rewrite(folder, name, change):
    path = folder / name / "part-00000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path) -> None:
    with pytest.raises(OutputError, match="Nothing is at"):
        read_scores(str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match=r"no run\.json"):
        read_scores(str(tmp_path))
    folder = write_scores(tmp_path / "a", plain_videos())
    (folder / "faces" / "part-00000.parquet").unlink()
    with pytest.raises(OutputError, match="holds no table"):
        read_scores(str(folder))


def with_column(name, values):
    return lambda table: table.set_column(table.schema.names.index(name), name, values)


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("videos", lambda table: pa.concat_tables([table, table]), "a video_id twice"),
        ("videos", lambda table: table.slice(1), "tables are of different runs"),
        ("videos", lambda table: table.drop_columns(["status"]), "no column status"),
        ("faces", with_column("p_fake", pa.array([2.0] * 6, pa.float32())), "outside 0 to 1"),
        ("faces", with_column("p_fake", pa.array([float("nan")] * 6)), "outside 0 to 1"),
        ("faces", with_column("p_fake", pa.nulls(6, pa.float32())), "without p_fake"),
        ("faces", with_column("video_id", pa.array([["x"]] * 6)), "cannot be read"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, name, change, complaint) -> None:
    folder = write_scores(tmp_path, plain_videos())
    rewrite(folder, name, change)
    with pytest.raises(OutputError, match=complaint):
        read_scores(str(folder))


@pytest.mark.parametrize("values", [{"model": None}, {"model": {"threshold": "high"}}, {"threshold": 7}])
def test_a_run_record_without_what_is_needed_is_refused(tmp_path, values) -> None:
    folder = write_scores(tmp_path, plain_videos(), **values)
    with pytest.raises(OutputError, match=r"run\.json"):
        judged(folder, labels())
