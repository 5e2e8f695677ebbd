"""The settings of folders."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from connectors.section import Section


class ClipOverrides(Section):
    """The common settings of sources of files: which files are clips, and what wins over the top level for them."""

    pattern: str = Field("**/*", min_length=1, description="which files are clips, by name; ** is any folders")
    prompt: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's prompt, key by key")
    windows: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's windows, key by key")
    frames: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's frames, key by key")

    @field_validator("pattern")
    @classmethod
    def _stays_inside(cls, pattern: str) -> str:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise ValueError(f"{pattern!r} leads elsewhere: write it relative to path, without ..")
        return pattern


class FolderSourceSettings(ClipOverrides):
    """Clips from a watched folder. It also holds ``work``, ``done`` and ``failed``, where its clips go."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the watched folder; made when it is not there")
    settle_s: float = Field(2.0, ge=0, description="a file counts when its size and time stood still for this long")
    scan_s: float = Field(30.0, gt=0, description="from one full scan to the next; changes are noticed earlier")


class FolderSinkSettings(Section):
    """Captions to files: ``<path>/<source>/<path of the clip>.jsonl`` and ``.vtt``."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the folder of the caption files; made when it is not there")
