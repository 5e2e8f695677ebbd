"""A note of what was sent again: a clip is under way until a newer message of it comes, and is not sent twice."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.files.journal import JournalFile
from connectors.redo.chosen import Chosen

NAME = "redo.jsonl"
_HEAD = {"captiond": "redo", "version": 1}


class SentAgain:
    """The note, in a file of ``state_dir``; one call at a time has it. A context that closes it."""

    def __init__(self, state_dir: Path) -> None:
        self._file = JournalFile(state_dir / NAME, _HEAD, key="state_dir")
        self._said_ms: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        self._file.path.parent.mkdir(parents=True, exist_ok=True)
        for entry in self._file.open():
            said_ms = entry.get("said_ms")
            if isinstance(said_ms, int):
                self._said_ms[str(entry.get("source")), str(entry.get("clip_id"))] = said_ms
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def knows(self, clip: Chosen) -> bool:
        """Whether the clip was sent again for the messages that choose it now."""
        return self._said_ms.get((clip.source, clip.clip_id), -1) >= clip.said_ms

    def note(self, clip: Chosen) -> None:
        """Note, durably, that a clip was sent again. A crash before this has it sent twice, which costs its work."""
        self._said_ms[clip.source, clip.clip_id] = clip.said_ms
        sent_ms = time.time_ns() // 1_000_000
        self._file.append({"source": clip.source, "clip_id": clip.clip_id, "said_ms": clip.said_ms, "sent_ms": sent_ms})
