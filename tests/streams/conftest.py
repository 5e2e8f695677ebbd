"""The recordings that tests of live streams start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.stream.disk_recording import DiskRecording
from connectors.stream.settings import StreamSourceSettings


class Recordings:
    """Makes recordings below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @asynccontextmanager
    async def of(self, url: str, name: str = "door", **settings: Any) -> AsyncIterator[DiskRecording]:
        """Record a stream while the block runs."""
        recording = DiskRecording(name, StreamSourceSettings(url=url, **settings), self.folder / name)
        await recording.start()
        try:
            yield recording
        finally:
            await recording.close()


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    return Recordings(tmp_path / "streams")
