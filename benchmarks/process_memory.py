"""The memory of a run's processes, by what they do, from `/proc`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drill_kill import descendants

ROLES = ("driver", "Ray's daemons", "extraction worker", "decoding child", "score actor", "other Ray worker")
MEASURES = ("rss", "uss", "anonymous")
_KB = 1024


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment.

    Attributes:
        pid: Its number.
        title: Its command line, or what it calls itself.
        memory_mb: Resident memory, MB (10^6 bytes): `rss` all that it has mapped, `uss` what at this moment it alone has
            mapped, `anonymous` what is of no file and no shared memory: heap and stack.
    """

    pid: int
    title: str
    memory_mb: dict[str, float]


def processes(root: int) -> list[Process]:
    """Return the process `root` and all below it that are still there."""
    found = []
    for pid in (root, *descendants(root)):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        if title:
            found.append(Process(pid, title, _memory_mb(rollup)))
    return found


def _memory_mb(rollup: str) -> dict[str, float]:
    """Return the measures of a file `smaps_rollup`.

    >>> _memory_mb("7f [rollup]\\nRss: 1000 kB\\nPrivate_Clean: 250 kB\\nPrivate_Dirty: 250 kB\\nAnonymous: 250 kB\\n")
    {'rss': 1.024, 'uss': 0.512, 'anonymous': 0.256}
    """
    fields = {line.split()[0].rstrip(":"): line.split()[1] for line in rollup.splitlines()[1:]}
    sizes = {"rss": ("Rss",), "uss": ("Private_Clean", "Private_Dirty"), "anonymous": ("Anonymous",)}
    return {measure: sum(int(fields[name]) for name in names) * _KB / 1e6 for measure, names in sizes.items()}


def roles(moments: Sequence[Sequence[Process]]) -> dict[int, str]:
    """Return what each process did; one that did several things, first or last, is called by the most telling.

    Args:
        moments: The processes of a run at one moment after the other; the first of each is the driver.
    """
    titles: dict[int, set[str]] = defaultdict(set)
    for moment in moments:
        for process in moment:
            titles[process.pid].add(process.title)
    drivers = {moment[0].pid for moment in moments if moment}
    return {pid: "driver" if pid in drivers else _role(names) for pid, names in titles.items()}


def _role(titles: set[str]) -> str:
    """Return the role of a process that was seen with `titles`.

    >>> _role({"ray::IDLE", "ray::MapBatches(extract_block)"}), _role({"ray::IDLE"}), _role({"ray::DashboardAgent"})
    ('extraction worker', 'other Ray worker', "Ray's daemons")
    """
    text = "\n".join(titles)
    if "extract_block" in text:
        return "extraction worker"
    if "ScoreBlock" in text:
        return "score actor"
    if "multiprocessing.spawn" in text:
        return "decoding child"
    is_worker = "default_worker.py" in text or ("ray::" in text and "Agent" not in text)
    return "other Ray worker" if is_worker else "Ray's daemons"


def memory_of_role(moment: Sequence[Process], role_of: dict[int, str], role: str, measure: str) -> float:
    """Return the memory of all processes of a role at one moment, MB."""
    return sum(process.memory_mb[measure] for process in moment if role_of[process.pid] == role)
