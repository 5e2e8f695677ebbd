"""What travels between a Kafka partition and the routes: where a clip came from, and what is to be written about it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.kafka.offset_ledger import Settlement

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class RecordOrigin:
    """The record that a clip came in; the ``handle`` of a Kafka source's deliveries.

    ``assignment`` numbers the time that the partition was with this process. ``value`` is kept only where the clip's
    media is something else (a reference, a value that can't be understood); otherwise the media is the value.
    """

    topic: str
    partition: int
    offset: int
    assignment: int
    timestamp_ms: int = 0
    key: bytes | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    value: bytes | None = field(default=None, repr=False)

    @property
    def place(self) -> tuple[str, int]:
        """The partition."""
        return (self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class OutRecord:
    """One record to be written. ``fallback`` is written instead where the topic refuses this one for its size."""

    topic: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    fallback: "OutRecord | None" = field(default=None, repr=False)


@dataclass(eq=False, slots=True)
class Publication:
    """Something that waits for the next commit.

    The records are written in its transaction (none where a sink wrote them before), the settlement becomes durable by
    it, and the waiter hears of it (nobody waits for a record that is skipped).
    """

    origin: RecordOrigin
    settlement: Settlement
    records: tuple[OutRecord, ...] = ()
    waiter: "asyncio.Future[None] | None" = None


REPLAY_PREFIX = "__captiond.replay."
"""Headers that a replayed dead letter carries: the clip's id, where to go on, and how often it was replayed."""

ERRORS_PREFIX = "__captiond.errors."
"""Headers of a dead letter, named after Kafka Connect's ``__connect.errors.``."""
