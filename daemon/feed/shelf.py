"""The entries of the page, kept on disk across restarts: lines in a few files, the oldest of which goes as a whole.

Nothing here is a promise: what is not readable is left out, a crash loses the last second, and a disk that is full or
away is no reason to stop captioning. All calls block and belong into a thread.
"""

import base64
import binascii
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.feed.recent import Entry
from daemon.feed.strips import Strip

log = logging.getLogger(__name__)

_FILES = 4  # so that at most a quarter more than is shown lies on disk
_MOST_LINE_BYTES = 1 << 20  # a strip is some 20 KB, a message a few; a larger one is not kept
_ENDING = ".jsonl"


class Shelf:
    """The last ``keep`` entries in ``folder``, which is ours alone."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._each = -(-keep // _FILES)
        self._in_file, self._number = self._each, 0  # the next entry begins a new file
        self._is_broken = False

    def load(self) -> list[Entry]:
        """Return what is there, the oldest first, and begin a new file behind it."""
        found: list[Entry] = []
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in self._numbers():
                self._number = number
                with open(self._path(number), "rb") as file:
                    while line := file.readline(_MOST_LINE_BYTES):
                        if (entry := _entry(line)) is not None:
                            found.append(entry)
        except OSError as error:
            self._broken(error)
        return found[-self._keep :]

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries behind the others, and remove the files whose entries are all too old."""
        try:
            for at in range(0, len(entries), self._each):
                self._append(entries[at : at + self._each])
            self._is_broken = False
        except OSError as error:
            self._broken(error)

    def _append(self, entries: Sequence[Entry]) -> None:
        if self._in_file + len(entries) > self._each:
            self._number, self._in_file = self._number + 1, 0
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in self._numbers()[:-_FILES]:
                self._path(number).unlink(missing_ok=True)
        descriptor = os.open(self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(b"".join(line for line in map(_line, entries) if len(line) < _MOST_LINE_BYTES))
        self._in_file += len(entries)

    def _numbers(self) -> list[int]:
        names = (path.name.removesuffix(_ENDING) for path in self._folder.glob(f"*{_ENDING}"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}{_ENDING}"

    def _broken(self, error: OSError) -> None:
        if not self._is_broken:
            log.warning("What the page shows is not kept on disk: %s.", error.strerror)
        self._is_broken = True


def _line(entry: Entry) -> bytes:
    kept: dict[str, Any] = {"at_ms": entry.at_ms, "clip_id": entry.clip_id, "source": entry.source}
    kept |= {"name": os.fsencode(entry.name).hex(), "message": entry.message.decode()}
    if entry.strip is not None:
        jpeg = base64.b64encode(entry.strip.jpeg).decode()
        kept["strip"] = [entry.strip.frames, entry.strip.width_px, jpeg]
    return json.dumps(kept).encode() + b"\n"


def _entry(line: bytes) -> Entry | None:
    try:
        kept = json.loads(line)
        frames, width_px, jpeg = kept.get("strip") or (0, 0, "")
        strip = Strip(base64.b64decode(jpeg), int(frames), int(width_px)) if frames else None
        name, message = os.fsdecode(bytes.fromhex(kept["name"])), kept["message"].encode()
        json.loads(message)
        return Entry(0, int(kept["at_ms"]), str(kept["clip_id"]), str(kept["source"]), name, message, strip)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return None
