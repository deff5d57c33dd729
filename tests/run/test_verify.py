import hashlib
import os
import subprocess

import pytest

from dfd.commands import verify as command
from dfd_core.errors import OutputError
from dfd_core.run.hashes import Hashes, read_hashes, remove_hashes, write_hashes
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.verify import (
    compare_scores,
    input_address,
    sample_videos,
    verify_inputs,
    verify_model,
    verify_outputs,
)
from dfd_core.schemas import MANIFEST, to_table
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table
from tests.scored_folder import write_scores


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.keras").write_bytes(b"weights")
    return folder


@pytest.fixture
def out(tmp_path, videos, bundle):
    """A finished run over two videos, with its hashes."""
    names = ["a.mp4", "sub/b.mp4"]
    rows = [{"video_id": name, "faces": [0.2, 0.4], "uri": str(videos / name)} for name in names]
    model = {"model_id": "m", "trained": True, "threshold": 0.5, "model": str(bundle)}
    model["sha256"] = hashlib.sha256(b"weights").hexdigest()
    configuration = {"source": str(videos)}
    write_scores(tmp_path / "scores", rows, model=model, configuration=configuration)
    found = OutputFolder.at(str(tmp_path / "scores"))
    facts = [os.stat(videos / name) for name in names]
    manifest = [
        {
            "manifest_row": number,
            "video_id": name,
            "uri": str(videos / name),
            "plan_key": name,
            "size_bytes": facts[number].st_size,
            "modified_ns": facts[number].st_mtime_ns,
        }
        for number, name in enumerate(names)
    ]
    write_table(found.manifest, to_table(manifest, MANIFEST))
    write_hashes(found, model)
    return found


def outputs(out):
    return [(found.problem, found.name) for found in verify_outputs(out, read_hashes(out))]


def inputs(out, videos, source=None):
    return [(found.problem, found.name) for found in verify_inputs(out, str(videos), source)]


def test_a_finished_run_is_as_it_was_recorded(out, videos, bundle, tmp_path):
    assert outputs(out) == []
    assert inputs(out, videos) == []
    assert list(verify_model(Address.parse(str(bundle)), read_hashes(out))) == []
    assert command.run(out.root.uri, None, None, 0) == 0


def test_sha256sum_checks_the_same_file(out):
    check = ["sha256sum", "--check", "--strict", "--quiet", "MANIFEST.sha256"]
    assert subprocess.run(check, cwd=out.root.path, check=False).returncode == 0
    with open(out.run_json.path, "ab") as file:
        file.write(b" ")
    assert subprocess.run(check, cwd=out.root.path, check=False, capture_output=True).returncode == 1


def test_every_change_of_an_output_is_named(out, capsys):
    with open((out.videos / "part-00000.parquet").path, "r+b") as file:
        file.seek(10)
        file.write(b"x")
    os.remove((out.faces / "part-00000.parquet").path)
    with open((out.faces / "extra.parquet").path, "wb") as file:
        file.write(b"x")
    assert sorted(outputs(out)) == [
        ("changed", "videos/part-00000.parquet"),
        ("missing", "faces/part-00000.parquet"),
        ("unlisted", "faces/extra.parquet"),
    ]
    assert command.run(out.root.uri, None, None, 0) == 1
    assert "differences: 3 output" in capsys.readouterr().out


def test_inputs_are_compared_where_they_are_now(out, videos, tmp_path):
    moved = tmp_path / "moved"
    os.rename(videos, moved)
    assert inputs(out, videos) == [("missing", "a.mp4"), ("missing", "sub/b.mp4")]
    assert inputs(out, videos, str(moved)) == []
    (moved / "sub" / "b.mp4").write_bytes(b"altered")
    assert inputs(out, videos, str(moved)) == [("changed", "sub/b.mp4")]


def test_a_changed_time_is_a_change_where_no_hash_was_recorded(out, videos):
    os.utime(videos / "a.mp4", (1, 1))
    assert inputs(out, videos) == [("changed", "a.mp4")]


def test_an_input_that_may_not_be_asked_for_is_unreadable(out):
    assert inputs(out, "x", "nonsense://host/x")[0] == ("unreadable", "a.mp4")


@pytest.mark.parametrize(
    ("uri", "root", "source", "expected"),
    [
        ("/a/b/c.mp4", "/a", None, "/a/b/c.mp4"),
        ("/a/b/c.mp4", "/a", "/new", "/new/b/c.mp4"),
        ("/a/b/c.mp4", "/elsewhere/list.csv", "/new", "/new/c.mp4"),
        ("s3://x/a/b.mp4", "s3://x", "/new", "/new/a/b.mp4"),
        ("/a/b.mp4", "/a", "s3://copy/of?region=y", "s3://copy/of/b.mp4?region=y"),
    ],
)
def test_where_an_input_is_now(uri, root, source, expected):
    assert input_address(uri, root, source) == expected


def test_another_model_is_named(out, bundle, capsys):
    (bundle / "model.keras").write_bytes(b"other weights")
    (found,) = verify_model(Address.parse(str(bundle)), read_hashes(out))
    assert (found.part, found.problem) == ("model", "changed")
    assert command.run(out.root.uri, None, None, 0) == 1
    assert "model.keras" in capsys.readouterr().out


def test_a_run_that_is_not_complete_has_no_hashes(out):
    remove_hashes(out)
    remove_hashes(out)
    with pytest.raises(OutputError, match=r"holds no MANIFEST.sha256: no run was completed"):
        read_hashes(out)


@pytest.mark.parametrize("text", ["hello\n", "0" * 64 + " a\n", "# no hash\n"])
def test_a_damaged_list_of_hashes_is_one_line(out, text):
    with open(out.hashes.path, "w") as file:
        file.write(text)
    with pytest.raises(OutputError, match=r"MANIFEST.sha256 cannot be read: Expected a SHA-256"):
        read_hashes(out)


def test_hashes_are_read_as_they_were_written():
    hashes = Hashes({"run.json": "0" * 64, "videos/a b.parquet": "1" * 64}, {"model.keras": "2" * 64})
    assert Hashes.parse(hashes.to_text()) == hashes


def test_scores_within_the_bound_are_no_difference(out):
    (video, _) = sample_videos(out, 5)
    assert video["p_fake"] == pytest.approx(0.3)
    faces = [(0.2, 0.2001), (0.4, 0.3999)]
    assert list(compare_scores(video, 0.3001, faces, bound=1e-3)) == []
    assert len(list(compare_scores(video, 0.3001, faces, bound=1e-5))) == 1
    assert len(list(compare_scores(video, 0.3, [(0.2, 0.9)], bound=1e-3))) == 1
    assert len(list(compare_scores(video, None, [], bound=1.0))) == 1


def test_the_sample_is_spread_over_the_table(out):
    assert [row["video_id"] for row in sample_videos(out, 1)] == ["a.mp4"]
    assert sample_videos(out, 0) == []
