"""Folder sources under test, what they leave in their folders, and a disk that is full."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.folder.settings import FolderSourceSettings
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
def full_disk(bytes_left_a_file: int) -> Iterator[None]:
    """Let no file grow past a size: writes are cut there and the next one fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left_a_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
