"""The settings of folders. What reads patterns is imported where they are checked: settings load no connector."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.questions import Questions
from connectors.section import FromRecords, Priority, Section, TakesAnswers

OURS = ("work", "done", "failed")  # what the source keeps at the top of its folder
UNFINISHED = (
    "~*",  # ~syncthing~clip.mp4.tmp, and Office's
    "*.part",  # Firefox, curl, yt-dlp, Nextcloud and ownCloud, KDE
    "*.part-Frag*",  # yt-dlp
    "*.partial",  # rclone, Internet Explorer
    "*.filepart",  # WinSCP
    "*.crdownload",  # Chrome, Edge
    "*.opdownload",  # Opera
    "*.download",  # Safari: a folder
    "*.cyberduckpart",
    "*.!qB",  # qBittorrent
    "*.!ut",  # uTorrent
    "*.bc!",  # BitComet
    "*.aria2",  # beside the clip, as the next two
    "*.lftp-pget-status",
    "*.st",  # axel
    "*.ytdl",
    "*.xltd",  # Thunder
    "*.gstmp",  # gsutil
    "*.tmp",
    "*.temp",
    "*.swp",
    "*.incomplete",
    "*.unfinished",
    "*.uploading",
    "*.inprogress",
)
"""The names of unfinished uploads, beside those that begin with a dot: rsync's, lftp's, Syncthing's and ProFTPD's."""


class ClipOverrides(Section):
    """The common settings of sources of files: which files are clips, and what wins over the top level for them."""

    priority: Priority = Field("normal", description="slots go to live sources first; backfill has a share left over")
    pattern: str = Field("**/*", min_length=1, description="which files are clips, by name; ** is any folders")
    prompt: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's prompt, key by key")
    prompts: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="the source's own questions, instead of the top level's"
    )
    prompts_from_records: FromRecords = Field(
        "replace",
        description="what a question that came with a clip does: replace the first one, append to each; never",
    )
    windows: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's windows, key by key")
    frames: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's frames, key by key")

    @field_validator("pattern")
    @classmethod
    def _can_match(cls, pattern: str) -> str:
        from connectors.folder.patterns import parse_pattern

        parse_pattern(pattern)
        return pattern


class FolderSourceSettings(ClipOverrides):
    """Clips from a watched folder. It also holds ``work``, ``done`` and ``failed``, where its clips go."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the watched folder; made when it is not there")
    settle_s: float = Field(
        2.0, ge=0, description="a file counts when its size and times were seen to stand still this long"
    )
    scan_s: float = Field(30.0, gt=0, description="from one full scan to the next; changes are noticed earlier")
    unfinished: tuple[str, ...] = Field(
        UNFINISHED, description="names of uploads that are not finished, whatever their case; dot files always are"
    )

    @field_validator("unfinished")
    @classmethod
    def _leaves_names(cls, unfinished: tuple[str, ...]) -> tuple[str, ...]:
        from connectors.folder.unfinished import unfinished_names

        unfinished_names(unfinished)
        return unfinished

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        """Refuse a pattern that asks for names which are never clips."""
        from connectors.folder.patterns import parse_pattern
        from connectors.folder.unfinished import unfinished_names

        names = unfinished_names(self.unfinished)
        for alternative in parse_pattern(self.pattern).alternatives:
            if alternative[0] in OURS:
                raise ValueError(f"pattern {self.pattern!r} can never match: {alternative[0]} is captiond's own folder")
            if never := next((part for part in alternative if names.fit_all(part)), None):
                raise ValueError(f"pattern {self.pattern!r} can never match: {never!r} is a name of unfinished uploads")
        return self


class FolderSinkSettings(TakesAnswers):
    """Captions to files: ``<path>/<source>/<path of the clip>.jsonl`` and ``.vtt``."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the folder of the caption files; made when it is not there")
    vtt_prompt: str | None = Field(None, description="the question whose answers the .vtt shows; the first if null")

    def know(self, questions: Questions) -> None:
        """Take note of the questions, of which the track shows one."""
        super().know(questions)
        if self.vtt_prompt is not None and not any(self.vtt_prompt in asked for asked in questions.of.values()):
            raise ValueError(f"sink.vtt_prompt: no source asks a question of the name {self.vtt_prompt!r}")
