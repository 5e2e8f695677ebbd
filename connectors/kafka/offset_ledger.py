"""The ledger of a partition: which of its clips are finished, and how a commit says so.

It is pure: it knows no client, no clock and no lock. One :class:`OffsetLedger` belongs to one assignment of one
partition, and only the thread that commits touches it. That thread fences the ledger before it lets the group have the
partition, so what comes late finds the fence and changes nothing: the check and the commit can't be torn apart.

The committed offset is the lowest unfinished one. What is finished above it, and where each unfinished clip goes on,
travels in the commit's metadata (:func:`encode_position`), so a long clip at a low offset repeats no clip after it. So
does the topic's id: a topic that is deleted and made again under its name has other records at the same offsets.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from connectors.contract import ClipPosition, Quarantine
from connectors.kafka.packed import PackedReader, pack_hash, pack_topic_id, put_number

BROKER_METADATA_BYTES = 4096
"""Brokers refuse longer metadata (offset.metadata.max.bytes)."""

ADMISSION_METADATA_BYTES = 3072
"""No further clip is taken on at this size. The rest is for clips taken on that grow: their windows and plan hashes."""

_RAW_ADMISSION_BYTES = ADMISSION_METADATA_BYTES * 3 // 4  # base64 writes 3 bytes as 4 characters
_TOPIC_ID_BYTES = 16
# Version, commit number, span, number of hashes, number of clips; the topic's id with its length, and the plain span.
_HEADER_BYTES = 1 + 5 + 5 + 2 + 3 + 1 + _TOPIC_ID_BYTES + 5
_ENTRY_BYTES = 3 + 3 + 2  # offset delta and next window up to 2,097,151 each, hash index with quarantine
_UNSEEN_HASH_BYTES = 32  # a plan hash is at most a SHA-256; once one has been seen, its true size counts
_VERSION, _WITHOUT_TOPIC = 2, 1  # what is written, and the version before, which is read

if ADMISSION_METADATA_BYTES >= BROKER_METADATA_BYTES:
    raise AssertionError("clips taken on need room to grow in the metadata")


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """What a commit says: everything below ``offset`` is finished, and below ``next_unseen`` all but ``unfinished``.

    ``number`` tells one commit of a process from the next, so that after an indeterminate one the process can look
    which of the two is stored. ``topic_id`` is the id of the topic that is spoken of, as Kafka prints it; empty where
    the brokers have none. Clips below ``plain_before`` were begun by a version that named no topic id in theirs, and
    keep their ids.
    """

    offset: int
    next_unseen: int
    unfinished: Mapping[int, ClipPosition] = field(default_factory=dict)
    number: int = 0
    topic_id: str = ""
    plain_before: int = 0

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
        self.topic_id = committed.topic_id
        self._plain_before = committed.plain_before
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

    @property
    def next_unseen(self) -> int:
        """The offset behind the last that reading has come to."""
        return self._next_unseen

    def generation(self, offset: int, timestamp_ms: int) -> str:
        """Return what tells the record at ``offset`` from one there in an earlier topic of the same name.

        It is the topic's id, else the record's time stamp; empty for a clip that an earlier version began.
        """
        if offset < self._plain_before:
            return ""
        return self.topic_id or (str(timestamp_ms) if timestamp_ms > 0 else "")

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
        return PartitionPosition(lowest, self._next_unseen, unfinished, self._number, self.topic_id, self._plain_before)

    def apply(self, outcomes: Outcomes, committed: PartitionPosition) -> list[int]:
        """Take over what was committed and return the offsets of the clips that are finished by it."""
        if self._is_fenced:
            raise ValueError("nothing is settled for a partition after its revoke")
        for offset, outcome in outcomes:
            if isinstance(outcome, ClipPosition) and outcome.plan_hash is not None:
                self._hash_bytes = len(pack_hash(outcome.plan_hash)) - 1
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
    """Return the metadata of a commit of ``position``: version 2, binary, base64.

    Version; commit number; the topic's id with its length; ``plain_before - offset``, or 0; ``next_unseen - offset``;
    the distinct plan hashes; then for each unfinished clip the distance from the one before, its next window, and hash
    and quarantine in one number. Numbers are LEB128. Where all of it would be refused by the broker, the windows to go
    on at are left out: clips then start again, none is lost.
    """
    text = _encode(position)
    if len(text) > BROKER_METADATA_BYTES:
        bare = {offset: ClipPosition(quarantine=clip.quarantine) for offset, clip in position.unfinished.items()}
        text = _encode(replace(position, unfinished=bare))
    return text


def _encode(position: PartitionPosition) -> str:
    hashes = sorted({clip.plan_hash for clip in position.unfinished.values() if clip.plan_hash is not None})
    raw = bytearray([_VERSION])
    put_number(raw, position.number)
    raw += pack_topic_id(position.topic_id)
    plain = max(position.plain_before - position.offset, 0)
    for number in (plain, position.next_unseen - position.offset, len(hashes)):
        put_number(raw, number)
    for plan_hash in hashes:
        raw += pack_hash(plan_hash)
    put_number(raw, len(position.unfinished))
    previous = position.offset
    for offset, clip in sorted(position.unfinished.items()):
        hash_index = 0 if clip.plan_hash is None else hashes.index(clip.plan_hash) + 1
        for number in (offset - previous, clip.next_window, hash_index << 2 | clip.quarantine):
            put_number(raw, number)
        previous = offset
    return base64.b64encode(raw).decode("ascii")


def decode_position(offset: int, metadata: str | None) -> PartitionPosition:
    """Return what a commit of ``offset`` says; :class:`ValueError` where the metadata can't be understood.

    Without metadata (a group that another program committed for) everything from ``offset`` on is unseen. What the
    version before wrote names no topic, and the clips that it has seen have ids without one.
    """
    if not metadata:
        return PartitionPosition(offset, offset)
    try:
        raw = PackedReader(base64.b64decode(metadata, validate=True))
        if (version := raw.take(1)[0]) not in (_VERSION, _WITHOUT_TOPIC):
            raise ValueError(f"version {version} of a position is not known here")
        number, topic_id, plain = raw.number(), "", None
        if version == _VERSION:
            topic_id, plain = raw.topic_id(), raw.number()
        span = raw.number()
        hashes = [raw.plan_hash() for _ in range(raw.number())]
        unfinished: dict[int, ClipPosition] = {}
        at = offset
        for _ in range(raw.number()):
            at += raw.number()
            next_window, mixed = raw.number(), raw.number()
            plan_hash = hashes[(mixed >> 2) - 1] if mixed >> 2 else None
            unfinished[at] = ClipPosition(next_window, plan_hash, Quarantine.after(mixed & 3))
        raw.finish()
        plain = span if plain is None else plain
        plain_before = offset + plain if plain else 0
        return PartitionPosition(offset, offset + span, unfinished, number, topic_id, plain_before)
    except (binascii.Error, IndexError, UnicodeError) as error:
        raise ValueError(f"not the metadata of a position: {error}") from error
