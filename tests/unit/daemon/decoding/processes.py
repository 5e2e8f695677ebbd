"""What a process has open, its children, and whether they run."""

import os
from pathlib import Path


def open_files() -> list[str]:
    """Return what this process has open: files, sockets and memory files."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return sorted(name.split(":")[0] for name in found if not name.startswith("/dev/"))


def children_of(pid: int) -> set[int | None]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
