"""The answers of a job so far, durable one by one in whatever order they come: what a crash leaves to go on from."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.files.journal import JournalFile

log = logging.getLogger(__name__)

_VERSION = 1


class AnswerJournal:
    """Answers by the number of their record, in a file beside the output.

    ``job`` names everything that answers depend on; a journal of another job counts as none.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._file = JournalFile(path, {"version": _VERSION, "job": job}, key="output_file")
        self.path = path
        self.answers: dict[int, Mapping[str, Any]] = {}
        self.deaths: Counter[int] = Counter()

    def open(self) -> None:
        """Read what an earlier run of the same job left, and open the file for more.

        Raises:
            ConfigurationError: another program is at it, or it can't be opened.
        """
        entries = self._file.open()
        for entry in entries:
            match entry:
                case {"answer": int(number), "record": dict(record)}:
                    self.answers[number] = record
                case {"suspect": int(number)}:
                    self.deaths[number] += 1
        if entries:
            log.info("%d answers of an earlier run are kept.", len(self.answers))

    async def answer(self, number: int, record: Mapping[str, Any], *, keep: bool = True) -> None:
        """Make a record's answer durable; with ``keep`` off (a failure) another run tries the record again."""
        if keep:
            await self._file.write({"answer": number, "record": record}, "Writing an answer")
        self.answers[number] = record  # not before it is durable: when all are here, nothing is on its way

    async def engine_died(self, number: int) -> None:
        """Make it durable that an engine died with this record."""
        self.deaths[number] += 1
        await self._file.write({"suspect": number}, "Writing a quarantine")

    def close(self) -> None:
        """Close the file, which stays for the next run."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete: the job is done."""
        self._file.remove()
