"""Fixtures that more than one module's tests use."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from dfd.cluster.runtime import quiet_libraries

if TYPE_CHECKING:
    from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parent.parent

# Read by libraries when they are first imported, and inherited by Ray's workers.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
quiet_libraries(verbose=False)

# A busy machine is no failure, and what lands does not depend on luck.
settings.register_profile("project", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("project")


def _absent(what: str, required_by: str) -> None:
    """Skip the test that needs `what`, or fail it where the environment says that it must run."""
    if os.environ.get(required_by) == "1":
        pytest.fail(f"{required_by}=1, but {what}")
    pytest.skip(what)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep tests marked `gpu` from running, or from passing, where there is no GPU."""
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            _absent("TensorFlow sees no GPU", "REQUIRE_GPU")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real videos."""
    folder = Path(os.environ.get("DFD_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "archive").is_dir():
        _absent(f"no real videos at {folder} (DFD_DATA names another folder)", "REQUIRE_REAL")
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven: three clips with a face, one without, one truncated, and two that are no videos.

    `good_a.mp4` (320x240, 25 fps, 3 s), `sub/good_b.mkv` (240x320, 30 fps, 2 s), `good_c.webm` (320x240, 25 fps,
    2 s, VP9), `no_face.mp4`, `truncated.mp4` (opens; its second half is gone), `text.mp4`, `empty.mp4` (0 bytes).
    """
    from tests.clips import astronaut_frames, faceless_frames, truncate, write_clip

    folder = tmp_path_factory.mktemp("clips")
    (folder / "sub").mkdir()
    write_clip(folder / "good_a.mp4", astronaut_frames(75))
    write_clip(folder / "sub" / "good_b.mkv", astronaut_frames(60, 240, 320), fps=30)
    write_clip(
        folder / "good_c.webm", astronaut_frames(50, zoom=1.2), codec="libvpx-vp9", options={"cpu-used": "8"}
    )
    write_clip(folder / "no_face.mp4", faceless_frames(50))
    whole = write_clip(
        folder / "truncated.mp4",
        astronaut_frames(150),
        options={"g": "12"},
        container_options={"movflags": "faststart"},
    )
    truncate(whole, keep=0.5)
    (folder / "text.mp4").write_text("This is not a video.\n" * 40)
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine: two CPUs, loopback only, 256 MB of object store."""
    import logging

    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=256 * 1024 * 1024,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    yield
    with warnings.catch_warnings():  # Ray does not wait for the daemons that it ends
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server on loopback."""
    from tests.s3_server import S3Server

    server = S3Server()
    yield server
    server.close()
