"""Folder sources and sinks under test, what they leave in their folders, and a disk that is full."""

import concurrent.futures.thread  # noqa: F401 - loaded before another user, who may not read it, needs it
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.folder.sink import FolderSink
from connectors.folder.source import FolderSource
from tests.contract.progress import done, name_of


def source_of(inbox: Path, *, once: bool = True, **settings: object) -> FolderSource:
    values = {"settle_s": 0.1, "scan_s": 0.3} | settings
    return FolderSource("inbox", FolderSourceSettings(path=inbox, **values), once=once)  # type: ignore[arg-type]


def tree(folder: Path) -> list[str]:
    """Return every file, without what the source keeps for itself."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(str(path) for path in found if not path.name.startswith("."))


def write_now(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def kept_lock_files(inbox: Path) -> int:
    return len(list(inbox.rglob(".lock")))


async def finish_all(source: FolderSource) -> list[str]:
    names = []
    async for delivery in source.deliveries():
        names.append(name_of(delivery))
        await source.settle(done(delivery))
    await source.close()
    return names


@contextmanager
def second_user(uid: int = 54321) -> Iterator[None]:
    """Be another user, without any of root's rights, for as long as this is open; every thread is."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Hold a folder that every user can come to, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="captiond-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def full_disk(bytes_left_a_file: int) -> Iterator[None]:
    """Let no file grow past a size: writes are cut there and the next one fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left_a_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sink_in(folder: Path) -> FolderSink:
    """Return the sink of the captions in a folder."""
    return FolderSink(FolderSinkSettings(path=folder / "captions"))
