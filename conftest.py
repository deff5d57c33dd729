"""What the doctests of the library need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from _pytest.doctest import DoctestItem

collect_ignore = [
    f"dfd_core/training/steps_{library}.py" for library in ("jax", "torch") if find_spec(library) is None
]
"""Modules for backends that are not installed: collecting their doctests would import them."""


@pytest.fixture(autouse=True)
def _clip_for_doctests(
    request: pytest.FixtureRequest,
    doctest_namespace: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Give the doctest of `score_video` the path of a clip of two seconds, as `clip`."""
    if isinstance(request.node, DoctestItem) and request.node.name.endswith(".score_video"):
        from tests.clips import astronaut_frames, write_clip

        clip = tmp_path_factory.mktemp("doctest") / "clip.mp4"
        write_clip(clip, astronaut_frames(50))
        doctest_namespace["clip"] = clip
