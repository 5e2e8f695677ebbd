"""The record that a clip came in, the records written about it, and the pending commit that ties them together."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from connectors.errors import Poison, Reason
from connectors.kafka.offset_ledger import Outcome

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers; a value may be null."""


def given(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes]:
    """Return the headers by name: one without a value is none, and of several the last counts."""
    return {name: value for name, value in headers if value is not None}


class Uninflated(bytes):
    """The value of a record in a compressed batch that was not inflated: no bytes, and the reason for its rejection.

    ``inflated_bytes`` had come out when it was given up.
    """

    reason: Reason
    detail: str
    inflated_bytes: int

    def __new__(cls, reason: Reason, detail: str, inflated_bytes: int) -> "Uninflated":
        value = super().__new__(cls)
        value.reason, value.detail, value.inflated_bytes = reason, detail, inflated_bytes
        return value


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The record that a clip came in; the ``handle`` of a Kafka source's deliveries.

    ``assignment`` numbers the time that the partition was with this process. ``generation`` tells the record from one
    at its place in an earlier topic of the same name. ``value`` is kept only where the clip's media is something else
    (a reference, a value that can't be understood); otherwise the media is the value.
    """

    topic: str
    partition: int
    offset: int
    assignment: int
    timestamp_ms: int = 0
    key: bytes | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    value: bytes | None = field(default=None, repr=False)
    generation: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """The partition."""
        return (self.topic, self.partition)

    @property
    def name(self) -> str:
        """What people call the record."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def clip_id(self) -> str:
        """The id of the clip in it, where nobody gave it another."""
        return f"{self.name}@{self.generation}" if self.generation else self.name


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """One record to be written. ``fallback`` is written instead where the topic refuses this one for its size."""

    topic: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    fallback: "ProducerRecord | None" = field(default=None, repr=False)


def fallbacks_of(records: Sequence[ProducerRecord], refusal: str) -> tuple[ProducerRecord, ...]:
    """Return what is written instead of these records, of which a topic refuses one for its size.

    A dead letter goes without its clip. A caption has nothing to leave out: :class:`Poison` with ``refusal`` as detail.
    """
    if all(record.fallback is None for record in records):
        raise Poison(Reason.CAPTION_TOO_LARGE, refusal, origin="sink")
    return tuple(record.fallback or record for record in records)


@dataclass(frozen=True, eq=False, slots=True)
class PendingCommit:
    """Something about one clip that waits for the next commit.

    With it the records are written (none where a sink wrote them before), the outcome becomes durable, and the waiter
    hears of it (nobody waits for a record that is skipped).
    """

    origin: SourceRecord
    outcome: Outcome
    records: tuple[ProducerRecord, ...] = ()
    waiter: "asyncio.Future[None] | None" = None


REPLAY_PREFIX = "__captiond.replay."
"""Headers that a replayed dead letter carries: the clip's id, where to go on, and how often it was replayed."""

ERRORS_PREFIX = "__captiond.errors."
"""Headers of a dead letter, named after Kafka Connect's ``__connect.errors.``."""
