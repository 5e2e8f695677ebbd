"""The settings of tar archives."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from connectors.folder.settings import ClipOverrides


class TarSourceSettings(ClipOverrides):
    """Clips from a tar archive, read member by member where it lies. What is appended to it comes too."""

    kind: Literal["tar"] = "tar"
    path: Path = Field(description="the archive, not compressed; it is only read")
    settle_s: float = Field(
        2.0, ge=0, description="it is read when its size and times were seen to stand still this long"
    )
    scan_s: float = Field(30.0, gt=0, description="from one look at whether it grew to the next")
