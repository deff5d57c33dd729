"""Power lost at random moments and files cut at random bytes: the undisturbed tables. `make drill-torn` is the long one."""

import os
import random

import pyarrow.fs as pafs
import pytest

from benchmarks import drill_torn
from benchmarks.drill_torn import Drill, disturbed, make_truth
from benchmarks.power_loss import ForgetfulDisk, PowerLoss
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes


def rounds(tmp_path, number, seed):
    chance, drill = random.Random(seed), Drill()
    truth = make_truth(tmp_path / "undisturbed", num_videos=5)
    for count in range(number):
        disturbed(truth, tmp_path / f"round{count}", chance, drill, losses=3)
    return drill


def test_the_tables_are_the_undisturbed_ones(tmp_path):
    drill = rounds(tmp_path, 4, seed=3)
    assert drill.faults == []
    assert drill.power_losses >= 8
    assert drill.cut > 0


def test_the_drill_finds_a_log_that_is_not_synced(tmp_path, monkeypatch):
    local = pafs.LocalFileSystem()
    monkeypatch.setattr(Address, "durable_fs", property(lambda self: local))
    monkeypatch.setattr(drill_torn, "cut_files", lambda *_: 0)
    assert any("needed a repair" in fault for fault in rounds(tmp_path, 6, seed=3).faults)


def test_a_disk_that_forgets_keeps_what_was_synced(tmp_path):
    root = tmp_path / "live"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    disk = ForgetfulDisk(root, syncs_left=2)

    with disk.watched(), pytest.raises(PowerLoss):
        write_bytes(Address.parse(str(root / "kept")), b"kept")  # two syncs
        (root / "lost").write_bytes(b"lost")
        (root / "old").rename(root / "new")
        write_bytes(Address.parse(str(root / "late")), b"late")
    seen = set()
    for seed in range(40):
        target = tmp_path / str(seed)
        target.mkdir()
        disk.leave(target, random.Random(seed))
        assert (target / "kept").read_bytes() == b"kept"
        assert not (target / "late").exists()
        seen |= set(os.listdir(target))
    assert {"kept", "lost", "old", "new"} <= seen
