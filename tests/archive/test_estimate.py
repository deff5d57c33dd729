"""An estimate says what the run then takes."""

import json

import pyarrow.parquet as pq
import pytest

from tests.labelled_pictures import rows, write_table
from tests.run_job import run_job_here

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.ray_remote_args. is deprecated"),  # as the jobs themselves ignore it
]


def score(source, out, *flags):
    return run_job_here("score", source, "--model", "untrained:mobilenet_v3_small", "--out", out, *flags)


@pytest.fixture(scope="module")
def estimated(ray_cluster, clip_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("estimated") / "out"
    return out, score(clip_folder, out, "--estimate")


def test_an_estimate_scores_nothing(estimated):
    out, done = estimated
    assert done.returncode == 0, done.stderr
    assert not list((out / "segments").glob("*"))
    assert not (out / "videos").exists()
    assert json.loads((out / "run.json").read_text())["outcome"] == "estimated"


def test_it_says_what_there_is_and_what_it_will_cost(estimated):
    lines = dict(line.split(maxsplit=1) for line in estimated[1].stdout.strip().splitlines())
    assert lines["videos"] == "7, 2 of them cannot be opened"
    assert lines["footage"].endswith("hours in 5 segments, 5 of them timed")
    assert lines["extraction"].endswith("CPU-hours")
    assert lines["output"].endswith("MB")
    assert list(lines) == "videos footage faces extraction scoring time balance output".split()


def test_the_run_that_follows_is_held_to_it(estimated, clip_folder):
    out, _ = estimated
    done = score(clip_folder, out)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["estimated", "complete"]
    found = record["estimate"]
    # every segment was in the sample, so what does not depend on the clock is exact
    assert found["num_faces"]["value"] == found["actual"]["num_faces"] == len(pq.read_table(out / "faces"))
    assert 0.3 < found["actual_of_predicted"]["extract_cpu_s"] < 3
    assert found["actual"]["output_bytes"] > 0


def test_an_estimate_of_a_finished_folder_leaves_its_outcome(estimated, clip_folder):
    out, _ = estimated
    done = score(clip_folder, out, "--estimate")
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert (record["outcome"], record["attempts"][-1]["outcome"]) == ("complete", "estimated")


def test_pictures_are_not_estimated(tmp_path):
    table = write_table(tmp_path / "faces.parquet", rows(4))
    done = score(table, tmp_path / "out", "--estimate")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--estimate is for videos" in done.stderr
