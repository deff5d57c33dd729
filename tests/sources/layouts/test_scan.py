"""Which files of a folder a dataset is read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfd_core.errors import ManifestError, RequestError
from dfd_core.sources.layouts.scan import scan
from tests.dataset_trees import found, make, read


@pytest.mark.parametrize("make_root", [lambda d: d / "nothing", lambda d: d / "file.txt"])
def test_what_is_no_folder_is_refused(tmp_path: Path, make_root) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(ManifestError, match="Expected a folder"):
        scan(str(make_root(tmp_path)))


def test_an_address_with_credentials_is_refused() -> None:
    with pytest.raises(RequestError) as refusal:
        scan("s3://AKIA:hunter2@bucket/x")
    assert "hunter2" not in str(refusal.value)


def test_links_to_folders_are_reported_and_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "tree", "real/a.mp4")
    make(tmp_path / "elsewhere", "real/b.mp4")
    (tmp_path / "tree" / "more").symlink_to(tmp_path / "elsewhere")
    dataset = read(tmp_path / "tree")
    assert found(dataset) == [("unlisted_folder", "more")]
