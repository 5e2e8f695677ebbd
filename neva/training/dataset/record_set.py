"""The records of one or more files, of which places alone are kept in memory.

Each file is read once, from front to back. Of a record that something is learned from, its place in the file is kept,
and it is read again when it is its turn, in whichever process that is. The others are skipped and counted by reason.
"""

import hashlib
import json
import logging
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.errors import ConfigurationError
from neva.training.dataset.json_elements import BROKEN, read_elements
from neva.training.dataset.records import OddRecord, RecordRules, TrainingRecord, read_record

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _File:
    """The places of a file's records: their bytes, and their numbers among all records of the file, from 1."""

    path: Path
    rules: RecordRules
    stamp: tuple[int, int]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def read(self, place: int) -> TrainingRecord:
        with self.path.open("rb") as file:
            if _stamp(file.fileno()) != self.stamp:
                raise ConfigurationError(f"{self.path} was changed while it was learned from", path="model.data")
            file.seek(int(self.offsets[place]))
            text = file.read(int(self.lengths[place]))
        return read_record(json.loads(text), self.rules)


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


class RecordSet(Sequence[TrainingRecord]):
    """The records of ``files``, one file after the other.

    Clips are counted over all records: those of record ``n`` are ``clip_starts[n]`` to ``clip_starts[n + 1]``.
    ``media_digest`` is a hash of their names, in order.
    """

    def __init__(self, files: Sequence[_File], clips: Sequence[int], media_digest: str) -> None:
        self._files, self.media_digest = tuple(files), media_digest
        self.sizes = tuple(len(file.offsets) for file in files)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.clip_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(np.asarray(clips, dtype=np.int64))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        file, place = self._find(number)
        return file.read(place)

    def _find(self, number: int) -> tuple[_File, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        at = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._files[at], number - int(self._starts[at])

    def place(self, number: int) -> str:
        """Return which record of which file it is; the file only where there are several."""
        file, place = self._find(number)
        named = f"Record {int(file.numbers[place])}"
        return named if len(self._files) == 1 else f"{named} of {file.path}"

    @property
    def clip_count(self) -> int:
        """The number of clips in all records."""
        return int(self.clip_starts[-1])

    def clips(self, number: int) -> range:
        """Return the numbers of a record's clips among all clips."""
        return range(int(self.clip_starts[number]), int(self.clip_starts[number + 1]))

    def record_of(self, clip: int) -> int:
        """Return the record that shows a clip."""
        return int(np.searchsorted(self.clip_starts, clip, side="right")) - 1


@dataclass(slots=True)
class _Found:
    """The places of records as they are read, and the reasons why others are skipped or changed, by the first one."""

    skipped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    clips: "array[int]" = field(default_factory=lambda: array("I"))
    media: Any = field(default_factory=hashlib.sha256)

    def read(self, path: Path, rules: RecordRules, key: str) -> _File:
        """Read a file to its end."""
        places = [array("q"), array("q"), array("q")]
        try:
            with path.open("rb") as file:
                stamp = _stamp(file.fileno())
                for number, element in enumerate(read_elements(path, file), 1):
                    record = self._read(element.value, rules, f"record {number} of {path}")
                    if record is not None:
                        for kept, value in zip(places, (element.offset, element.length, number), strict=True):
                            kept.append(value)
                        self._keep(record)
        except OSError as error:
            raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=key) from error
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}", path=key) from error
        return _File(path, rules, stamp, *(np.frombuffer(kept, dtype=np.int64) for kept in places))

    def _read(self, value: Any, rules: RecordRules, place: str) -> TrainingRecord | None:
        try:
            if value is BROKEN:
                raise OddRecord("its line is not JSON")
            record = read_record(value, rules)
        except OddRecord as odd:
            self._count(self.skipped, str(odd), place)
            return None
        if record.changed is not None:
            self._count(self.changed, record.changed, place)
        return record

    def _count(self, counter: Counter[str], reason: str, place: str) -> None:
        counter[reason] += 1
        self.first.setdefault(reason, place)

    def _keep(self, record: TrainingRecord) -> None:
        self.clips.append(len(record.clips))
        for name in record.clips:
            self.media.update(name.encode() + b"\0")
        self.media.update(b"\n")

    def lines(self) -> Iterator[str]:
        """Yield a line for each reason, the most frequent first."""
        for reason, count in self.skipped.most_common():
            yield f"{count} skipped: {reason}; the first is {self.first[reason]}."
        for reason, count in self.changed.most_common():
            yield f"{count} learned from with a change: {reason}; the first is {self.first[reason]}."


def read_training_records(
    paths: Sequence[Path], rules: RecordRules, key: str = "model.data.data_path", *, told: bool = True
) -> RecordSet:
    """Return the records of the files that something is learned from; the log counts the others once, by reason.

    ``told`` is false in all processes but one, whose log it is.

    Raises:
        ConfigurationError: a file can't be read or is no list of records, or nothing can be learned from one.
    """
    found, files = _Found(), []
    for path in paths:
        files.append(found.read(path, replace(rules, steerlm=path.suffix == ".jsonl"), key))
    lines = list(found.lines())
    for path, file in zip(paths, files, strict=True):
        if not len(file.offsets):
            reasons = f": {' '.join(lines)}" if lines else ""
            raise ConfigurationError(f"{path} holds no record that can be learned from{reasons}", path=key)
    records = RecordSet(files, found.clips, found.media.hexdigest())
    if told:
        for line in lines:
            log.warning("Records of %s: %s", key, line)
        log.info("%s: %d records, %d clips.", key, len(records), records.clip_count)
    return records
