"""A hundred damaged videos, each of which must end as a row. `make drill-fuzz` does thousands, of real ones."""

import pytest

from benchmarks.drill_fuzz import LIMITS, fuzz


@pytest.mark.slow
def test_every_damaged_video_ends_as_a_row_in_bounded_time(clip_folder):
    files = sorted(
        path for path in clip_folder.rglob("*.*") if path.stat().st_size > 0 and path.suffix != ".txt"
    )
    found, faults, longest_s = fuzz(files, num_mutants=100, seed=11)
    assert faults == []
    assert sum(found.values()) >= 100
    assert longest_s < 2 * LIMITS.timeout_floor_s
    kinds = {end for _, end in found}
    assert "decoded" in kinds
    assert len(kinds) >= 4, "the damage must reach more than one kind of failure"
    assert kinds.isdisjoint({"unexpected", "storage", "missing"})
