import json

import pytest

from dfd_core.errors import OutputError
from dfd_core.run.estimate import compared
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.storage.address import Address
from dfd_core.storage.files import PART_SUFFIX, write_bytes

CONFIGURATION = {"model_id": "m@1", "limits": {"memory_mb": 4000}}


@pytest.fixture
def record():
    return RunRecord.new(CONFIGURATION, {"model_id": "m@1"})


def test_other_limits_are_no_other_configuration_and_another_model_is(record):
    record.refuse_other(CONFIGURATION | {"limits": {"memory_mb": 8000}})
    with pytest.raises(OutputError, match="model_id was 'm@1', now 'm@2'"):
        record.refuse_other(CONFIGURATION | {"model_id": "m@2"})


def test_a_folder_of_before_there_was_a_choice_of_detector_was_made_with_dlib(record):
    now = {"detector": "dlib", "detector_version": "dlib-20.0.1"}
    record.refuse_other(CONFIGURATION | now)
    with pytest.raises(OutputError, match="detector was 'dlib', now 'fast'"):
        record.refuse_other(CONFIGURATION | {"detector": "fast", "detector_version": "centerface-1"})
    later = RunRecord.new(CONFIGURATION | now, None)
    with pytest.raises(OutputError, match=r"detector_version was 'dlib-20\.0\.1', now 'dlib-21'"):
        later.refuse_other(CONFIGURATION | now | {"detector_version": "dlib-21"})


def test_only_attempts_that_came_to_their_end_have_derived_the_tables(record):
    for outcome in ("interrupted", "complete", "estimated", "broken", "too_many_failed"):
        record.begin()
        record.end(outcome)
    record.begin()
    assert record.num_derivations == 2


def test_what_is_written_is_json_whatever_was_measured(record, tmp_path):
    record.values["throughput"] = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}}
    record.write(OutputFolder.at(str(tmp_path)))
    refuse = lambda name: pytest.fail(f"{name} is no JSON")  # noqa: E731
    found = json.loads((tmp_path / "run.json").read_text(), parse_constant=refuse)
    assert found["throughput"] == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_a_prediction_of_nothing_has_no_share():
    predicted = {
        "num_faces": {"value": 0.0},
        "extract_cpu_s": {"value": 2.0},
        "before": {"num_faces": 0, "extract_cpu_s": 1.0},
    }
    found = compared(predicted, {"num_faces": 3, "extract_cpu_s": 2.0})
    assert found["actual_of_predicted"] == {"num_faces": None, "extract_cpu_s": 0.5}


def test_a_folder_of_a_run_that_was_killed_at_its_first_record_is_taken(tmp_path):
    (tmp_path / f"run.json.123{PART_SUFFIX}").write_text("{")
    (tmp_path / ".lock").touch()
    OutputFolder.at(str(tmp_path)).refuse_foreign()
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(OutputError, match=r"holds no run.json: .lock, thesis.docx"):
        OutputFolder.at(str(tmp_path)).refuse_foreign()


def test_what_cannot_be_written_leaves_nothing_beside(tmp_path):
    (tmp_path / "run.json").mkdir()  # which no file can take the place of
    with pytest.raises(OSError):
        write_bytes(Address.parse(str(tmp_path / "run.json")), b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
