"""The ledger of a partition: which of its clips are finished, and how a commit says so.

It is pure: it knows no client, no clock and no lock. One :class:`OffsetLedger` belongs to one assignment of one
partition, and only the thread that commits touches it. That thread fences the ledger before it lets the group have the
partition, so what comes late finds the fence and changes nothing: the check and the commit can't be torn apart.

The committed offset is the lowest unfinished one. What is finished above it, and where each unfinished clip goes on,
travels in the commit's metadata (:func:`encode_position`), so a long clip at a low offset repeats no clip after it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from connectors.contract import ClipPosition, Quarantine

BROKER_METADATA_BYTES = 4096
"""Brokers refuse longer metadata (offset.metadata.max.bytes)."""

ADMISSION_METADATA_BYTES = 3072
"""No further clip is taken on at this size. The rest is for clips taken on that grow: their windows and plan hashes."""

_RAW_ADMISSION_BYTES = ADMISSION_METADATA_BYTES * 3 // 4  # base64 writes 3 bytes as 4 characters
_HEADER_BYTES = 1 + 5 + 5 + 2 + 3  # version, commit number, span, number of hashes, number of clips
_ENTRY_BYTES = 3 + 3 + 2  # offset delta and next window up to 2,097,151 each, hash index with quarantine
_UNSEEN_HASH_BYTES = 32  # a plan hash is at most a SHA-256; once one has been seen, its true size counts
_VERSION = 1

if ADMISSION_METADATA_BYTES >= BROKER_METADATA_BYTES:
    raise AssertionError("clips taken on need room to grow in the metadata")


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """What a commit says: everything below ``offset`` is finished, and below ``next_unseen`` all but ``unfinished``.

    ``number`` tells one commit of a process from the next, so that after an indeterminate one the process can look
    which of the two is stored.
    """

    offset: int
    next_unseen: int
    unfinished: Mapping[int, ClipPosition] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.offset <= self.next_unseen:
            raise ValueError(f"no such position: {self.offset=}, {self.next_unseen=}")
        if any(not self.offset <= offset < self.next_unseen for offset in self.unfinished):
            raise ValueError(f"unfinished clips lie outside [{self.offset}, {self.next_unseen})")


Outcome = ClipPosition | Quarantine | None
"""The outcome of a clip: where it goes on, whatever its quarantine; its quarantine alone; None where it is finished."""

Outcomes = Sequence[tuple[int, Outcome]]
"""Outcomes of clips by their offsets, in the order in which they came."""


class OffsetLedger:
    """The clips of one partition during one assignment.

    ``assignment`` is a number of its own for each time that a partition came to this process: what names another one is
    late.
    """

    def __init__(self, assignment: int, committed: PartitionPosition) -> None:
        self.assignment = assignment
        self._unfinished = dict(committed.unfinished)
        self._next_unseen = committed.next_unseen
        self._floor = committed.offset
        self._in_flight: set[int] = set()
        self._number = committed.number
        self._hash_bytes = _UNSEEN_HASH_BYTES
        self._is_fenced = False

    @property
    def is_fenced(self) -> bool:
        """Whether the partition was revoked or lost: nothing may be committed for it any more."""
        return self._is_fenced

    @property
    def in_flight(self) -> frozenset[int]:
        """The offsets of the clips that were delivered and are not finished."""
        return frozenset(self._in_flight)

    def fence(self) -> None:
        """End the assignment. From here on :meth:`position_after` and :meth:`apply` refuse."""
        self._is_fenced = True

    def admits(self) -> bool:
        """Tell whether the metadata has room for one more unfinished clip, at the largest it can become."""
        entry_bytes = _ENTRY_BYTES + 1 + self._hash_bytes
        return _HEADER_BYTES + (len(self._unfinished) + 1) * entry_bytes <= _RAW_ADMISSION_BYTES

    def is_known(self, offset: int) -> bool:
        """Tell whether an earlier commit speaks of ``offset``; taking it on needs no room then."""
        return offset < self._next_unseen

    def start(self, offset: int) -> ClipPosition | None:
        """Take the clip at ``offset`` on and return where it goes on; None when it is finished or in flight already."""
        if offset in self._in_flight:
            return None
        if offset >= self._next_unseen:
            self._next_unseen = offset + 1
            self._unfinished[offset] = ClipPosition()
        elif offset not in self._unfinished:
            return None
        self._in_flight.add(offset)
        return self._unfinished[offset]

    def pass_over(self, next_offset: int) -> list[int]:
        """Note that reading has come to ``next_offset``, and return the unfinished clips below it that are gone.

        Offsets have gaps (transaction markers, compaction), and retention deletes clips that an earlier commit calls
        unfinished: a clip that reading has passed without getting it will never come.
        """
        gone = [offset for offset in self._unfinished if offset < next_offset and offset not in self._in_flight]
        for offset in gone:
            del self._unfinished[offset]
        self._next_unseen = max(self._next_unseen, next_offset)
        return gone

    def position_after(self, outcomes: Outcomes = ()) -> PartitionPosition:
        """Return what to commit once ``outcomes`` are durable. Each call has a number of its own."""
        if self._is_fenced:
            raise ValueError("nothing is committed for a partition after its revoke")
        unfinished = dict(self._unfinished)
        for offset, outcome in outcomes:
            _settle(unfinished, offset, outcome)
        self._number += 1
        lowest = max(min(unfinished, default=self._next_unseen), self._floor)
        return PartitionPosition(lowest, self._next_unseen, unfinished, self._number)

    def apply(self, outcomes: Outcomes, committed: PartitionPosition) -> list[int]:
        """Take over what was committed and return the offsets of the clips that are finished by it."""
        if self._is_fenced:
            raise ValueError("nothing is settled for a partition after its revoke")
        for offset, outcome in outcomes:
            if isinstance(outcome, ClipPosition) and outcome.plan_hash is not None:
                self._hash_bytes = len(_pack_hash(outcome.plan_hash)) - 1
            _settle(self._unfinished, offset, outcome)
        self._floor = max(self._floor, committed.offset)
        finished = [offset for offset in self._in_flight if offset not in self._unfinished]
        self._in_flight.difference_update(finished)
        return finished


def _settle(unfinished: dict[int, ClipPosition], offset: int, outcome: Outcome) -> None:
    """Change the clip's entry; an outcome of a finished clip or of windows already done changes nothing."""
    clip = unfinished.get(offset)
    if clip is None:
        return
    if outcome is None:
        del unfinished[offset]
    elif isinstance(outcome, Quarantine):
        unfinished[offset] = replace(clip, quarantine=max(clip.quarantine, outcome))
    elif outcome.plan_hash != clip.plan_hash or outcome.next_window > clip.next_window:
        unfinished[offset] = clip.moved(outcome.next_window, outcome.plan_hash)


def encode_position(position: PartitionPosition) -> str:
    """Return the metadata of a commit of ``position``: version 1, binary, base64.

    Version; commit number; ``next_unseen - offset``; the distinct plan hashes; then for each unfinished clip the
    distance from the one before, its next window, and hash and quarantine in one number. Numbers are LEB128. Where all
    of it would be refused by the broker, the windows to go on at are left out: clips then start again, none is lost.
    """
    text = _encode(position)
    if len(text) > BROKER_METADATA_BYTES:
        bare = {offset: ClipPosition(quarantine=clip.quarantine) for offset, clip in position.unfinished.items()}
        text = _encode(replace(position, unfinished=bare))
    return text


def _encode(position: PartitionPosition) -> str:
    hashes = sorted({clip.plan_hash for clip in position.unfinished.values() if clip.plan_hash is not None})
    raw = bytearray([_VERSION])
    for number in (position.number, position.next_unseen - position.offset, len(hashes)):
        _put(raw, number)
    for plan_hash in hashes:
        raw += _pack_hash(plan_hash)
    _put(raw, len(position.unfinished))
    previous = position.offset
    for offset, clip in sorted(position.unfinished.items()):
        hash_index = 0 if clip.plan_hash is None else hashes.index(clip.plan_hash) + 1
        for number in (offset - previous, clip.next_window, hash_index << 2 | clip.quarantine):
            _put(raw, number)
        previous = offset
    return base64.b64encode(raw).decode("ascii")


def decode_position(offset: int, metadata: str | None) -> PartitionPosition:
    """Return what a commit of ``offset`` says; :class:`ValueError` where the metadata can't be understood.

    Without metadata (a group that another program committed for) everything from ``offset`` on is unseen.
    """
    if not metadata:
        return PartitionPosition(offset, offset)
    try:
        raw = _Reader(base64.b64decode(metadata, validate=True))
        if (version := raw.take(1)[0]) != _VERSION:
            raise ValueError(f"version {version} of a position is not known here")
        number, span = raw.number(), raw.number()
        hashes = [raw.plan_hash() for _ in range(raw.number())]
        unfinished: dict[int, ClipPosition] = {}
        at = offset
        for _ in range(raw.number()):
            at += raw.number()
            next_window, mixed = raw.number(), raw.number()
            plan_hash = hashes[(mixed >> 2) - 1] if mixed >> 2 else None
            unfinished[at] = ClipPosition(next_window, plan_hash, Quarantine.after(mixed & 3))
        raw.finish()
        return PartitionPosition(offset, offset + span, unfinished, number)
    except (binascii.Error, IndexError, UnicodeError) as error:
        raise ValueError(f"not the metadata of a position: {error}") from error


def _put(raw: bytearray, number: int) -> None:
    """Append a number as LEB128."""
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    raw.append(number)


def _pack_hash(plan_hash: str) -> bytes:
    """Return a length and the hash; hexadecimal digits, which hashes are, take half a byte each."""
    try:
        packed, is_hex = bytes.fromhex(plan_hash), 1
    except ValueError:
        packed, is_hex = plan_hash.encode(), 0
    if is_hex and packed.hex() != plan_hash:
        packed, is_hex = plan_hash.encode(), 0
    raw = bytearray()
    _put(raw, len(packed) << 1 | is_hex)
    return bytes(raw) + packed


class _Reader:
    """The metadata, read from its start."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def take(self, length: int) -> bytes:
        if self._at + length > len(self._raw):
            raise IndexError("it ends early")
        self._at += length
        return self._raw[self._at - length : self._at]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise IndexError("a number has no end")

    def plan_hash(self) -> str:
        mixed = self.number()
        packed = self.take(mixed >> 1)
        return packed.hex() if mixed & 1 else packed.decode()

    def finish(self) -> None:
        if self._at != len(self._raw):
            raise IndexError("it goes on after its end")
