"""Kafka's client as a script: records, stored positions, what the group decides and what fails are data.

:class:`ScriptedConsumer` stands for :class:`connectors.kafka.client.consumer.Consumer`, :class:`ScriptedProducer` for
:class:`connectors.kafka.client.producer.TopicProducer`, and :class:`ScriptedCommitter` for a committer over the two.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from kafka.errors import CommitFailedError, IllegalStateError
from kafka.structs import MemberState

from connectors.kafka.client.consumer import OffsetAndMetadata, TopicPartition
from connectors.kafka.consumer.committer import Unknown, offsets_of
from connectors.kafka.offset_ledger import Outcome
from connectors.kafka.record import PendingCommit, ProducerRecord, SourceRecord

IDLE_S = 0.001  # what a round of polling waits at most


class Faults:
    """What calls raise, one after the other, by the name of the method. None lets a call pass."""

    def __init__(self, **faults: Iterable[BaseException | None]) -> None:
        self._faults = defaultdict[str, deque[BaseException | None]](deque)
        for name, given in faults.items():
            self._faults[name].extend(given)

    def add(self, name: str, *faults: BaseException | None) -> None:
        self._faults[name].extend(faults)

    def meet(self, name: str) -> None:
        """Raise what this call of ``name`` meets."""
        fault = self._faults[name].popleft() if self._faults[name] else None
        if fault is not None:
            raise fault


@dataclass(frozen=True)
class Record:
    """A record as the client returns it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None = b"clip"
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0


class ScriptedConsumer:
    """A consumer over ``records``. ``changes`` are what the group decides, one a round of polling.

    ``happened`` notes rounds of polling, changes and commits in their order.
    """

    def __init__(self, records: Iterable[Record] = (), **faults: Iterable[BaseException | None]) -> None:
        self.records = list(records)
        self.stored: dict[TopicPartition, OffsetAndMetadata] = {}
        self.first = defaultdict[TopicPartition, int](int)
        self.changes: deque[tuple[str, set[TopicPartition]]] = deque()
        self.faults = Faults(**faults)
        self.reachable = self.stable = True
        self.generation = 1
        self.happened: list[str] = []
        self.listener: Any = None
        self.is_closed = False
        self._assigned: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        self._committable: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int | None] = {}

    def subscribe(self, *, listener: Any, **_: Any) -> None:
        self.listener = listener

    def poll_once(self, wait_s: float, max_records: int) -> dict[TopicPartition, list[Record]]:
        self.happened.append("poll")
        self._committable = set(self._assigned)  # the group moves on
        self.faults.meet("poll_once")
        if self.changes:
            self.change(*self.changes.popleft())
            return {}
        polled: dict[TopicPartition, list[Record]] = {}
        left = max_records
        for partition in sorted(self._assigned - self._paused):
            following = [record for record in self._of(partition) if record.offset >= (self.positions[partition] or 0)]
            if taken := following[:left]:
                polled[partition] = taken
                left -= len(taken)
                self.positions[partition] = taken[-1].offset + 1
        if not polled:
            time.sleep(min(wait_s, IDLE_S))
        return polled

    def change(self, kind: str, partitions: set[TopicPartition]) -> None:
        """Let the group give or take partitions; the listener hears of it as from the client."""
        self.happened.append(kind)
        if kind == "assigned":
            self._assigned |= partitions
            self._committable |= partitions
            for partition in partitions:
                stored = self.stored.get(partition)
                self.positions[partition] = self.first[partition] if stored is None else stored.offset
        if self.listener is not None:
            getattr(self.listener, f"on_partitions_{kind}")(partitions)
        if kind != "assigned":
            self._assigned -= partitions
            self._paused -= partitions
        if kind == "lost":
            self._committable -= partitions

    def _of(self, partition: TopicPartition) -> list[Record]:
        return [record for record in self.records if (record.topic, record.partition) == partition]

    def assignment(self) -> set[TopicPartition]:
        return set(self._assigned)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused.difference_update(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    def position(self, partition: TopicPartition, timeout_ms: float | None = None) -> int | None:
        if partition not in self._assigned:
            raise IllegalStateError(f"{partition} is not assigned")
        return self.positions[partition]

    def beginning_offsets(self, partitions: Iterable[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        return {partition: self.first[partition] for partition in partitions}

    def end_offsets(self, partitions: Iterable[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        return {
            partition: max((record.offset + 1 for record in self._of(partition)), default=0) for partition in partitions
        }

    def committed(self, partition: TopicPartition, *, metadata: bool, timeout_ms: float) -> OffsetAndMetadata | None:
        self.faults.meet("committed")
        return self.stored.get(partition)

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: float) -> None:
        self.faults.meet("commit")
        self.store(offsets)

    def store(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Store positions, as the group's coordinator does for the partitions' owner alone.

        Partitions that are revoked are the consumer's until it polls again.
        """
        if not set(offsets) <= self._committable:
            raise CommitFailedError("the group has moved on")
        self.happened.append("commit")
        self.stored.update(offsets)

    def lag(self, partition: TopicPartition) -> int | None:
        position = self.positions[partition]
        return None if position is None else self.end_offsets([partition], 0)[partition] - position

    def group_metadata(self) -> Any:
        return SimpleNamespace(
            generation_id=self.generation, state=MemberState.STABLE if self.stable else MemberState.REBALANCING
        )

    def is_reachable(self) -> bool:
        return self.reachable

    def is_joined(self) -> bool:
        return self.stable

    def close(self, *, autocommit: bool, timeout_ms: float) -> None:
        self.happened.append("leave")
        self.is_closed = True


@dataclass
class Sending:
    """What becomes of a record: acknowledged, or ``exception``; without an answer, nothing."""

    is_done: bool = True
    exception: BaseException | None = None

    def failed(self) -> bool:
        return self.is_done and self.exception is not None

    def get(self, timeout: float) -> None:
        if self.exception is not None:
            raise self.exception


@dataclass
class ScriptedProducer:
    """A producer that does one transaction at a time. What was committed is in ``written``, positions in the consumer.

    ``answers`` say what becomes of records by their values; ``steps`` notes the calls.
    """

    consumer: ScriptedConsumer
    faults: Faults = field(default_factory=Faults)
    answers: dict[bytes | None, Sending] = field(default_factory=dict)
    written: list[ProducerRecord] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    is_abandoned: bool = False
    _records: list[ProducerRecord] = field(default_factory=list)
    _offsets: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)

    def _do(self, step: str) -> None:
        assert not self.is_abandoned
        self.steps.append(step)
        self.faults.meet(step)

    def init_transactions(self) -> None:
        self._do("init_transactions")

    def begin_transaction(self) -> None:
        self._records, self._offsets = [], {}
        self._do("begin_transaction")

    def send(self, record: ProducerRecord) -> Sending:
        self._do("send")
        self._records.append(record)
        return self.answers.get(record.value, Sending())

    def flush(self, limit_s: float) -> None:
        self._do("flush")
        self.written += [record for record in self._records if not self.answers.get(record.value, Sending()).failed()]
        self._records = []

    def add_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: Any, deadline_s: float) -> None:
        self._do("add_offsets")
        self._offsets.update(offsets)

    def begin_commit(self) -> str:
        self._do("begin_commit")
        return "commit"

    def wait(self, step: str, deadline_s: float) -> None:
        self._do("wait")
        self.written += self._records
        self.consumer.store(self._offsets)

    def abort(self, deadline_s: float) -> None:
        self._do("abort")

    def abandon(self) -> None:
        self.is_abandoned = True


@dataclass
class Lost(Exception):
    """A commit whose answer got lost; it happened, or it did not."""

    happened: bool


class ScriptedCommitter:
    """Stores positions in the consumer, unless the ``script`` has a fault for the commit or ``prepare`` fails."""

    def __init__(self, consumer: ScriptedConsumer, *script: Exception | None) -> None:
        self.consumer = consumer
        self.script = deque(script)
        self.faults = Faults()
        self.commits: list[list[PendingCommit]] = []  # those that happened
        self.tries = 0
        self.prepared = 0
        self.is_closed = False

    def prepare(self) -> None:
        self.faults.meet("prepare")
        self.prepared += 1

    def commit(self, pending: Sequence[PendingCommit], positions: Any, consumer: Any, limit_s: float) -> None:
        assert consumer is self.consumer
        self.tries += 1
        fault = self.script.popleft() if self.script else None
        if fault is None or (isinstance(fault, Lost) and fault.happened):
            consumer.store(offsets_of(positions))
            self.commits.append(list(pending))
        if isinstance(fault, Lost):
            raise Unknown("no answer")
        if fault is not None:
            raise fault

    def close(self, limit_s: float) -> None:
        self.is_closed = True


class ImmediateLoop:
    """An event loop that does at once what a thread asks of it."""

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)


Waiter = Future[None]
TOPIC = "clips"


def partition(number: int) -> TopicPartition:
    return TopicPartition(TOPIC, number)


def clips(number: int, *offsets: int, value: bytes | None = b"clip") -> list[Record]:
    """Return records of one partition."""
    return [Record(TOPIC, number, offset, value) for offset in offsets]


def pending(number: int, offset: int, outcome: Outcome, *records: ProducerRecord, assignment: int = 1) -> PendingCommit:
    """Return a pending commit of a clip whose waiter can be asked."""
    return PendingCommit(SourceRecord(TOPIC, number, offset, assignment), outcome, records, cast(Any, Waiter()))


def answer_of(commit: PendingCommit) -> BaseException | str | None:
    """Return what the waiter heard: an error, or "answered" without one; None while it waits."""
    waiter = cast(Waiter, commit.waiter)
    if not waiter.done():
        return None
    return waiter.exception() or "answered"
