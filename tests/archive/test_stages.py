"""The pipelines as they are built, before anything runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.data import DataContext

from dfd.archive.stages import build_pictures
from dfd.cluster.runtime import ray_cluster as connected
from dfd_core.config import ExtractConfig
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import SEGMENT
from dfd_core.storage.address import Address
from dfd_core.storage.tables import write_table

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_the_size_of_blocks_is_the_datasets_own_and_leaks_into_nothing_else(tmp_path: Path) -> None:
    out = OutputFolder.at(str(tmp_path))
    listed = tmp_path / "plan" / "open.parquet"
    write_table(Address.parse(str(listed)), SEGMENT.empty_table())
    work = SimpleNamespace(address=Address.parse(str(listed)), block_rows=1, num_open=3)
    with connected(None, verbose=False):
        before = DataContext.get_current().target_max_block_size
        try:
            dataset = build_pictures(out, ExtractConfig(image_format="png"), work=work, tally=None)
        finally:
            DataContext.get_current().checkpoint_config = None
        assert DataContext.get_current().target_max_block_size == before
        assert dataset.context.target_max_block_size == 1 << 20
