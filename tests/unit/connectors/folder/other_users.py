"""Folders and files of several users, and file systems of their own, on the real file system."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT_S = 30.0  # a test that stands still fails
OURS, THEIRS = 54321, 54322

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a second user is made by root")


def give(path: Path, uid: int) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)


def did(tool: str, *arguments: str | Path) -> bool:
    """Run a tool of the system, and return whether it is there and did its work."""
    found = shutil.which(tool)
    return found is not None and subprocess.run([found, *arguments], capture_output=True).returncode == 0


@contextmanager
def mounted(at: Path, *options: str) -> Iterator[None]:
    """Mount a small file system in memory, and skip the test where that is not allowed."""
    at.mkdir(parents=True, exist_ok=True)
    if not did("mount", "-t", "tmpfs", *options, "tmpfs", at):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        assert did("umount", "-l", at)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
