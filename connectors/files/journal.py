"""A JSON Lines file that one program appends to, each entry durable when its writing returns.

A head names what the entries are about; a file with another head counts as none. A half line at the end, which a crash
can leave, is cut off.
"""

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from connectors.files.durable import DiskPatience, write_all

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]


class JournalFile:
    """The file. ``key`` is what the user calls the place where it is kept."""

    def __init__(self, path: Path, head: Entry, *, key: str) -> None:
        self.path, self._head, self._key = path, head, key
        self._file = -1
        self._size_bytes = 0
        self._pending: list[bytes] = []
        self._turn = asyncio.Lock()
        self._patience = DiskPatience()

    @property
    def waiting_for(self) -> str:
        """The outage that is waited for now, for people; empty when there is none."""
        return self._patience.waiting_for

    def open(self) -> list[Entry]:
        """Open the file for more, and return the entries that it holds.

        Raises:
            ConfigurationError: another program is at it, or it can't be opened.
        """
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"another program writes {self.path} now", path=self._key) from error
        except OSError as error:
            raise ConfigurationError(f"{self.path} can't be opened: {error.strerror}", path=self._key) from error
        with os.fdopen(os.dup(self._file), "rb") as file:
            lines = file.read().split(b"\n")
        whole = [line + b"\n" for line in lines[:-1]]  # what stands behind the last newline is half a line
        if whole and _entry(whole[0]) == self._head:
            self._size_bytes = sum(map(len, whole))
            os.ftruncate(self._file, self._size_bytes)
            return [_entry(line) for line in whole[1:]]
        if whole:
            log.warning("%s is of another job, prompts or settings; it is begun anew.", self.path.name)
        os.ftruncate(self._file, 0)
        self._append(_line(self._head))
        return []

    def _append(self, data: bytes) -> None:
        """Write at the end and sync. Run again after a failure, it writes over what the failure left."""
        os.lseek(self._file, self._size_bytes, os.SEEK_SET)
        write_all(self._file, data)
        os.fsync(self._file)
        self._size_bytes += len(data)

    def append(self, entry: Entry) -> None:
        """Write an entry, or raise :class:`OSError`: for a command, which has somebody to tell."""
        self._append(_line(entry))

    async def write(self, entry: Entry, what: str) -> None:
        """Write an entry; those that come while an earlier one is synced share the next sync.

        ``what`` begins the sentence that is logged where the disk lets it wait.
        """
        mine = _line(entry)
        self._pending.append(mine)
        async with self._turn:
            if not any(line is mine for line in self._pending):
                return
            data, self._pending = b"".join(self._pending), []
            await self._patience.run(lambda: self._append(data), what)

    def close(self) -> None:
        """Close the file, which stays for the next run. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Close and delete."""
        self.close()
        self.path.unlink(missing_ok=True)


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _entry(line: bytes) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
