"""The size of the machine that this process may use: its cores, and its memory.

Both are what its control groups leave of the machine's: ``cpu.max`` in whole cores, ``memory.max`` and ``memory.high``.
"""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def core_count(own_group: Path = _OWN_GROUP, groups: Path = _CGROUPS) -> int:
    """Return how many cores this process may use: those that it may run on and its control groups pay for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(paid for folder in _folders(own_group, groups) for paid in _paid_cores(folder / "cpu.max"))])


def memory_bytes(own_group: Path = _OWN_GROUP, groups: Path = _CGROUPS) -> int:
    """Return the machine's memory, or what the control groups above this process leave of it where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _folders(own_group, groups):
        found += _numbers(folder / "memory.max") + _numbers(folder / "memory.high")
    return min(found)


def _folders(own_group: Path, groups: Path) -> list[Path]:
    """Return the folder of this process's control group and those above it; none without the unified hierarchy."""
    try:
        place = groups / own_group.read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return []
    return [folder for folder in (place, *place.parents) if folder.is_relative_to(groups)]


def _paid_cores(path: Path) -> list[int]:
    """Return how many whole cores a quota a period pays for, one at least; nothing where the quota is ``max``."""
    numbers = _numbers(path)
    return [max(1, numbers[0] // numbers[1])] if len(numbers) == 2 and numbers[1] > 0 else []


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a control group's file; none where it is not there or says ``max``."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
