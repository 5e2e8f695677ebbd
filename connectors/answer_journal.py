"""The answers of a job so far, durable one by one in whatever order they come: what a crash leaves to go on from.

A JSON Lines file beside the output: a head that names the job, then an entry a line. A half line at the end, which a
crash can leave, is cut off; a journal of another job counts as none.
"""

import asyncio
import fcntl
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.durable_file import DiskPatience, write_all
from connectors.errors import ConfigurationError

log = logging.getLogger(__name__)

_VERSION = 1


class AnswerJournal:
    """Answers by the number of their record. ``job`` names everything that answers depend on."""

    def __init__(self, path: Path, job: str) -> None:
        self.path, self._job = path, job
        self.answers: dict[int, Mapping[str, Any]] = {}
        self.suspicions: Counter[int] = Counter()
        self._file = -1
        self._size_bytes = 0
        self._pending: list[bytes] = []
        self._turn = asyncio.Lock()
        self._patience = DiskPatience()

    def open(self) -> None:
        """Read what an earlier run of the same job left, and open the file for more.

        Raises:
            ConfigurationError: another program is at it, or it can't be opened.
        """
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"another program writes {self.path} now", path="output_file") from error
        except OSError as error:
            raise ConfigurationError(f"{self.path} can't be opened: {error.strerror}", path="output_file") from error
        with os.fdopen(os.dup(self._file), "rb") as file:
            lines = file.read().split(b"\n")
        whole = [line + b"\n" for line in lines[:-1]]  # what stands behind the last newline is half a line
        if whole and _entry(whole[0]) == {"version": _VERSION, "job": self._job}:
            self._size_bytes = sum(map(len, whole))
            for line in whole[1:]:
                self._take(_entry(line))
            log.info("%d answers of an earlier run are kept.", len(self.answers))
            os.ftruncate(self._file, self._size_bytes)
            return
        if whole:
            log.warning("%s is of another job, prompts or settings; it is begun anew.", self.path.name)
        os.ftruncate(self._file, 0)
        self._append(_line({"version": _VERSION, "job": self._job}))

    def _take(self, entry: Mapping[str, Any]) -> None:
        match entry:
            case {"answer": int(number), "record": dict(record)}:
                self.answers[number] = record
            case {"suspect": int(number)}:
                self.suspicions[number] += 1

    def _append(self, data: bytes) -> None:
        """Write at the end and sync. Run again after a failure, it writes over what the failure left."""
        os.lseek(self._file, self._size_bytes, os.SEEK_SET)
        write_all(self._file, data)
        os.fsync(self._file)
        self._size_bytes += len(data)

    async def answer(self, number: int, record: Mapping[str, Any], *, keep: bool = True) -> None:
        """Make a record's answer durable; with ``keep`` off (a failure) another run tries the record again."""
        if keep:
            await self._write({"answer": number, "record": record})
        self.answers[number] = record  # not before it is durable: when all are here, nothing is on its way

    async def suspect(self, number: int) -> None:
        """Make it durable that an engine died with this record."""
        self.suspicions[number] += 1
        await self._write({"suspect": number})

    async def _write(self, entry: Mapping[str, Any]) -> None:
        """Write an entry; those that come while an earlier one is synced share the next sync."""
        mine = _line(entry)
        self._pending.append(mine)
        async with self._turn:
            if not any(line is mine for line in self._pending):
                return
            data, self._pending = b"".join(self._pending), []
            await self._patience.run(lambda: self._append(data), "Writing an answer")

    def close(self) -> None:
        """Close the file, which stays for the next run."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Close and delete: the job is done."""
        self.close()
        self.path.unlink(missing_ok=True)


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _entry(line: bytes) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
