from __future__ import annotations

import json

from click.testing import CliRunner

from dfd.commands.compare import main
from tests.scored_folder import many_videos, write_scores


def compare(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_two_runs_give_a_page_numbers_and_a_summary(tmp_path):
    for name, seed in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name, many_videos(60, seed=seed))
    arguments = [tmp_path / "a", tmp_path / "b", "--out", tmp_path / "deep" / "c", "--resamples", 50]
    result = compare(*arguments)
    assert result.exit_code == 0, result.output
    assert "60 in A, 60 in B, 60 in both" in result.output
    assert "ROC AUC" in result.output
    values = json.loads((tmp_path / "deep" / "c" / "comparison.json").read_text())
    assert f"verdicts that differ: {values['num_flips']}" in result.output
    assert (tmp_path / "deep" / "c" / "comparison.html").read_text().startswith("<!DOCTYPE html>")
    summary = json.loads(compare(*arguments, "--json").stdout)
    assert summary["num_videos"] == {"a": 60, "b": 60, "both": 60}


def test_a_folder_that_is_no_run_is_one_line_and_status_2(tmp_path):
    (tmp_path / "a").mkdir()
    write_scores(tmp_path / "a", many_videos(20))
    result = compare(tmp_path / "a", tmp_path / "nothing", "--out", tmp_path / "c")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "c").exists()
