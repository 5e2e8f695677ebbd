"""The children of a process, and whether they run."""

import os
from pathlib import Path


def children_of(pid: int) -> set[int | None]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
