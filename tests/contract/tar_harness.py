"""A tar archive under the contract suites: clips are appended to it."""

import io
import os
import tarfile
from pathlib import Path

from connectors.contract import Source
from connectors.tar.settings import TarSourceSettings
from connectors.tar.source import TarSource
from tests.contract.folder_harness import LONG_AGO_NS


def append(archive: Path, name: str, content: bytes = b"clip") -> None:
    """Add a member at the archive's end, and make the archive look long finished."""
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    count = archive.stat().st_size
    os.utime(archive, ns=(LONG_AGO_NS + count, LONG_AGO_NS + count))


class TarHarness:
    """A tar source."""

    def __init__(self, folder: Path) -> None:
        self.archive, self.state_dir = folder / "clips.tar", folder / "state"
        with tarfile.open(self.archive, "w"):
            pass
        self.settings = TarSourceSettings(path=self.archive, settle_s=0.05, scan_s=0.05)

    async def put(self, name: str) -> None:
        append(self.archive, name)

    async def open(self, *, once: bool = True) -> Source:
        return TarSource("inbox", self.settings, self.state_dir, once=once)

    async def kill(self, source: Source) -> None:
        assert isinstance(source, TarSource)
        source.abandon()
