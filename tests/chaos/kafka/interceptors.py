"""Interceptors around the parts of a Kafka daemon under test: they note what happens, hold it up, or end it.

Like :mod:`tests.chaos.kill_points`, nothing of it is known to the program.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from connectors.kafka.consumer.assigned_partitions import AssignedPartitions, Place
from connectors.kafka.offset_ledger import PartitionPosition
from tests.chaos.kill_points import Handing, Killer, KillingSource

_IN_FLIGHT_S = 0.06  # about what a transaction takes


class Journal:
    """Appends an event a line, each in one write: what a killed process noted is there."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **facts: Any) -> None:
        """Note that something happened now."""
        line = {"event": event, "at_ns": time.monotonic_ns(), "pid": os.getpid(), **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the events of all processes that wrote to a journal, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _name(place: Place) -> str:
    return "/".join(map(str, place))


class NotedPartitions(AssignedPartitions):
    """Notes when partitions come and when they are fenced."""

    journal: Journal

    @classmethod
    def instead_of(cls, inner: AssignedPartitions, journal: Journal) -> "NotedPartitions":
        """Return one with the same bounds."""
        made = cls(max_clips=inner.max_clips, max_bytes=inner.max_bytes)
        made.journal = journal
        return made

    def assign(self, place: Place, committed: PartitionPosition) -> None:
        self.journal.note("assign", places=[_name(place)], offset=committed.offset)
        super().assign(place, committed)

    def revoke(self, places: Iterable[Place]) -> None:
        gone = list(places)
        super().revoke(gone)
        self.journal.note("revoke", places=[_name(place) for place in gone])

    def drop(self, late: Iterable[Any]) -> None:
        super().drop(late)
        self.journal.note("late", total=self.late_settlements)


class StruckCommitter(Handing):
    """Notes commits, and passes the points around them."""

    def __init__(self, inner: Any, killer: Killer, journal: Journal) -> None:
        super().__init__(inner, killer)
        self.journal = journal
        self._is_transactional = hasattr(inner, "_connect")
        if self._is_transactional:
            connect = inner._connect
            inner._connect = lambda: _strike_producer(connect(), killer)

    def commit(self, pending: Sequence[Any], positions: Any, consumer: Any, limit_s: float) -> None:
        """Hand on the commit."""
        facts = {"places": [_name(place) for place in positions], "generation": consumer.group_metadata().generation_id}
        self.killer.passed("before_publish" if self._is_transactional else "before_commit")
        facts["asked_ns"] = time.monotonic_ns()
        self.inner.commit(pending, positions, consumer, limit_s)
        self.journal.note("commit", **facts)
        self.killer.passed("after_commit")


def _strike_producer(topic_producer: Any, killer: Killer) -> Any:
    """Pass the points within a transaction: while records are on their way, after them, and before its end."""
    producer = topic_producer.producer
    send, manager = producer.send, producer._transaction_manager
    add_offsets, begin_commit = manager.send_offsets_to_transaction, manager.begin_commit

    def struck_send(*args: Any) -> Any:
        future = send(*args)
        killer.within("publish_in_flight", _IN_FLIGHT_S)
        return future

    def struck_add_offsets(*args: Any) -> Any:
        killer.passed("after_publish")
        return add_offsets(*args)

    def struck_begin_commit() -> Any:
        killer.passed("before_commit")
        return begin_commit()

    producer.send, manager.begin_commit = struck_send, struck_begin_commit
    manager.send_offsets_to_transaction = struck_add_offsets
    return topic_producer


class KafkaKillingSource(KillingSource):
    """Receives; the points of the commit are the committer's."""

    def __init__(self, inner: Any, killer: Killer, journal: Journal) -> None:
        super().__init__(inner, killer)
        self.journal = journal

    async def deliveries(self) -> AsyncIterator[Any]:
        """Note and hand on each delivery."""
        async for delivery in super().deliveries():
            self.journal.note("receive", offset=delivery.handle.offset)
            yield delivery

    async def settle(self, progress: Any) -> None:
        """Hand on the position."""
        await self.inner.settle(progress)


class HeldRoute(Handing):
    """Holds every publish up: for ``slow_s`` each, or until a file exists."""

    def __init__(self, inner: Any, killer: Killer, journal: Journal, *, slow_s: float, until: Path | None) -> None:
        super().__init__(inner, killer)
        self.journal, self._slow_s, self._until = journal, slow_s, until

    async def publish(self, progress: Any) -> None:
        """Wait, hand the progress on, and note it."""
        origin, last = progress.delivery.handle, progress.last
        place = _name(origin.place)
        self.journal.note("hold", places=[place], offset=origin.offset)
        await asyncio.sleep(self._slow_s)
        while self._until is not None and not self._until.exists():
            await asyncio.sleep(0.02)
        self.journal.note("publish", places=[place], offset=origin.offset, assignment=origin.assignment, last=last)
        await self.inner.publish(progress)
        self.journal.note("published", places=[place], offset=origin.offset, windows=len(progress.captions), last=last)
        self.killer.passed("after_settle")


class SlowToStart(Handing):
    """An engine whose model takes ``start_s`` to load."""

    def __init__(self, inner: Any, killer: Killer, journal: Journal, start_s: float) -> None:
        super().__init__(inner, killer)
        self.journal, self._start_s = journal, start_s

    async def start(self) -> None:
        """Load."""
        self.journal.note("loading")
        await asyncio.sleep(self._start_s)
        await self.inner.start()
