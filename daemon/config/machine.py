"""The size of the machine that this process may use: its cores, and its memory."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes(own_group: Path = Path("/proc/self/cgroup"), groups: Path = _CGROUPS) -> int:
    """Return the machine's memory, or what the control groups above this process leave of it where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        place = groups / own_group.read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return found[0]
    for folder in (place, *place.parents):
        if folder.is_relative_to(groups):
            found += _limit(folder / "memory.max")
    return min(found)


def _limit(path: Path) -> list[int]:
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):  # none there, or "max"
        return []
