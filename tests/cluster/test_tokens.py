"""The README's steps on one machine, in their order: a local run, then a cluster, then a submitted job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_nodes import RayNodes

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]

LOCAL_RUN = """
from dfd.cluster.runtime import quiet_libraries, ray_cluster
quiet_libraries(verbose=False)
with ray_cluster("local", verbose=False):
    pass
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The home of a user who has run the program once on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="dfd-", dir="/tmp"))  # socket names must be short
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    subprocess.run([sys.executable, "-c", LOCAL_RUN], env=environment | {"HOME": str(folder)}, check=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[RayNodes]:
    """A head that this user starts next, without a word about tokens."""
    nodes = RayNodes(home / "head", home)
    nodes.folder.mkdir()
    try:
        nodes.start_head()
        yield nodes
    finally:
        nodes.stop()


def test_a_local_run_leaves_a_token(home: Path) -> None:
    assert (home / ".ray" / "auth_token").read_text().strip()


def test_a_job_is_then_submitted_only_with_the_mode_that_the_documents_name(cluster: RayNodes) -> None:
    submit = ("job", "submit", "--", sys.executable, "-c", "print('it', 'ran')")
    refused = cluster.ray(*submit)
    assert refused.returncode != 0
    assert "RAY_AUTH_MODE is currently 'disabled'" in refused.stderr
    done = cluster.ray(*submit, RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it ran" in done.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/cluster.md"])
def test_the_documents_name_the_mode_where_the_command_stands(document: str) -> None:
    text = (Path(__file__).resolve().parents[2] / document).read_text()
    for block in text.split("```")[1::2]:
        if "ray job submit" in block:
            assert "export RAY_AUTH_MODE=token" in block
