"""A consumer thread over a scripted consumer, run beside a test."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from connectors.contract import Delivery
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.committer import OffsetCommitter
from connectors.kafka.consumer.fetcher import Fetcher
from connectors.kafka.consumer.thread import ConsumerThread
from connectors.kafka.offset_ledger import Outcome
from connectors.kafka.record import PendingCommit, SourceRecord
from tests.unit.connectors.kafka.scripted_client import Record, ScriptedConsumer, decode, partition

PLACE, OTHER = partition(0), partition(1)
NEVER_S = 3600.0  # a commit interval that is never over: after the first commit, a revoke or the end commits
FIRST = Record("clips", 0, 0, None)  # is skipped, and so the first commit


class Prepared(OffsetCommitter):
    """Commits positions; its start may fail."""

    def __init__(self) -> None:
        self.faults = deque[Exception]()
        self.is_closed = False

    def prepare(self) -> None:
        if self.faults:
            raise self.faults.popleft()

    def close(self, limit_s: float) -> None:
        self.is_closed = True


class Running:
    """A consumer thread over a scripted consumer, and what it delivered."""

    def __init__(
        self,
        *records: Record,
        interval_s: float = 0.005,
        once: bool = False,
        max_clips: int = 10,
        reason: str = "nothing listens",
    ) -> None:
        self.consumer: Any = ScriptedConsumer(records)
        self.connecting = deque[Exception]()
        self.committer = Prepared()
        self.partitions = AssignedPartitions(max_clips=max_clips, max_bytes=1000)
        self.delivered: list[Delivery | None] = []
        self.untaken = 0  # of them, those that nobody works on
        self.thread = ConsumerThread(
            "clips",
            Fetcher(self.partitions, decode, once=once, path="sources.clips"),
            CommitQueue(self.committer, self.partitions, asyncio.get_running_loop()),
            connect=self._connect,
            subscribe=lambda consumer, listener: consumer.subscribe(listener=listener),
            deliver=self.delivered.extend,
            untaken=lambda: self.untaken,
            explain_outage=lambda: reason,
            commit_interval_s=interval_s,
        )

    def _connect(self) -> Any:
        if self.connecting:
            raise self.connecting.popleft()
        return self.consumer

    def change(self, kind: str, *partitions: Any) -> None:
        """Let the group decide, in the next round of polling."""
        self.consumer.changes.append((kind, set(partitions)))

    @property
    def names(self) -> list[str]:
        return [delivery.clip.clip_id for delivery in self.delivered if delivery is not None]

    async def delivers(self, *names: str) -> Sequence[Delivery]:
        """Wait until these clips were delivered, in any order, and nothing else."""
        await until(lambda: len(self.names) >= len(names))
        assert sorted(self.names) == sorted(names)
        return sorted(
            (delivery for delivery in self.delivered if delivery is not None), key=lambda each: each.clip.clip_id
        )

    def publish(self, delivery: Delivery, outcome: Outcome = None) -> "asyncio.Future[None]":
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert isinstance(delivery.handle, SourceRecord)
        self.thread.add(PendingCommit(delivery.handle, outcome, (), waiter))
        return waiter

    async def has_committed(self) -> None:
        """Wait for the first commit."""
        await until(lambda: self.thread.queue.commits == 1)
        await self.polls()

    async def polls(self, rounds: int = 3) -> None:
        """Wait for some more turns."""
        seen = self.thread.turns
        await until(lambda: self.thread.turns >= seen + rounds)

    def stored(self, place: Any = PLACE) -> int | None:
        found = self.consumer.stored.get(place)
        return None if found is None else found.offset


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(made: Running, *numbers: int) -> AsyncIterator[Running]:
    """Run the thread, whose group gives it some partitions, and end it."""
    if numbers:
        made.change("assigned", *(partition(number) for number in numbers))
    made.thread.start()
    try:
        yield made
    finally:
        made.thread.close()
        async with asyncio.timeout(60):
            await made.thread.ended.wait()
        made.thread._thread.join(60)
