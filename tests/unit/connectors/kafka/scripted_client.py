"""A scripted consumer: records, stored positions, what the group decides and what fails are data.

:class:`ScriptedConsumer` stands for :class:`connectors.kafka.client.consumer.Consumer`.
"""

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kafka.errors import CommitFailedError, IllegalStateError
from kafka.structs import MemberState

from connectors.contract import Clip, ClipPosition, Delivery
from connectors.kafka.client.consumer import OffsetAndMetadata, PartitionFault, TopicPartition
from connectors.kafka.record import PendingCommit, SourceRecord
from connectors.media.bytes import BytesMedia

IDLE_S = 0.001  # what a round of polling waits at most
TOPIC = "clips"


def partition(number: int) -> TopicPartition:
    """Return a partition of the topic that every test reads."""
    return TopicPartition(TOPIC, number)


class Faults:
    """What calls raise, one after the other, by the name of the method. None lets a call pass."""

    def __init__(self) -> None:
        self._faults = defaultdict[str, deque[BaseException | None]](deque)

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


def clips(number: int, *offsets: int, value: bytes | None = b"clip") -> list[Record]:
    """Return records of one partition."""
    return [Record(TOPIC, number, offset, value) for offset in offsets]


def decode(record: Any, position: ClipPosition, assignment: int, generation: str = "") -> Delivery | PendingCommit:
    """Return a delivery whose clip is called by its partition, offset and generation; a null value is skipped."""
    origin = SourceRecord(record.topic, record.partition, record.offset, assignment, generation=generation)
    if record.value is None:
        return PendingCommit(origin, None)
    name = f"{record.partition}/{record.offset}" + (f"@{generation}" if generation else "")
    return Delivery(Clip(name, "clips", BytesMedia(name, record.value), 0), position, origin)


class ScriptedConsumer:
    """A consumer over ``records``. ``changes`` are what the group decides, one a round of polling.

    ``happened`` notes rounds of polling, changes and commits in their order.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records = list(records)
        self.stored: dict[TopicPartition, OffsetAndMetadata] = {}
        self.first = defaultdict[TopicPartition, int](int)
        self.topic_id = ""
        self.start_from = "earliest"
        self.led = True
        self.missing: list[str] = []
        self.partition_faults: dict[TopicPartition, PartitionFault] = {}
        self.changes: deque[tuple[str, set[TopicPartition]]] = deque()
        self.faults = Faults()
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

    def wake(self) -> None:
        """Nothing waits here."""

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

    def take_faults(self) -> dict[TopicPartition, PartitionFault]:
        met, self.partition_faults = self.partition_faults, {}
        return met

    def start_over(self, partition: TopicPartition) -> None:
        self.happened.append("start over")
        first, end = self.bounds(partition, 0)
        self.positions[partition] = first if self.start_from == "earliest" else end

    def bounds(self, partition: TopicPartition, timeout_ms: float) -> tuple[int, int]:
        self.faults.meet("bounds")
        return self.first[partition], self.end_offsets([partition], timeout_ms)[partition]

    def has_leader(self, partition: TopicPartition) -> bool:
        return self.led

    def missing_topics(self) -> list[str]:
        return self.missing

    def known_topic_id(self, topic: str) -> str:
        return self.topic_id

    def topic_ids(self, topics: Collection[str], timeout_ms: float) -> dict[str, str]:
        self.faults.meet("topic_ids")
        return {topic: self.topic_id for topic in topics if topic not in self.missing}

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
