"""Reading the partitions of a source: where each begins, which are paused, and what is handed out.

Every step runs in the thread that owns the consumer. A record that can't be taken on is read again later: the partition
is set back to it and paused, so nothing is kept that the budget does not count.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from connectors.contract import ClipPosition
from connectors.kafka.client.consumer import KafkaConsumer, TopicPartition, lag_of, poll_once, translate
from connectors.kafka.consumer.assigned_partitions import Partitions, Place
from connectors.kafka.offset_ledger import PartitionPosition, decode_position
from connectors.kafka.record import Publication

log = logging.getLogger(__name__)

POSITION_MS = 5_000  # an answer from the group's coordinator; when it is over the partition stays paused a while longer
LAG_S = 1.0  # how often the lag is looked at; it costs no request
IDLE_MEMBER_S = 5.0  # a second round follows the first within a second, unless another member is slow to answer

HandOut = Callable[[Any, ClipPosition, int], Any]
"""Makes a delivery of a record, its position and its assignment, or a :class:`Publication` that skips it."""


class PartitionReader:
    """The reading side of a member. With ``once`` it reads to the ends that the partitions had when they came."""

    def __init__(self, partitions: Partitions, hand_out: HandOut, *, once: bool, path: str) -> None:
        self.partitions, self.once = partitions, once
        self.lost_to_retention = 0
        self.draining = False
        self.lag: dict[Place, int] = {}  # of each partition, what was not handed out when it was last looked at
        self._lag_at_s = 0.0
        self._hand_out, self._path = hand_out, path
        self._unplaced: set[TopicPartition] = set()
        self._ends: dict[Place, int] = {}
        self._idle_since_s: float | None = None

    def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Note partitions that came; they are paused, and :meth:`place` finds out where they begin."""
        self._unplaced |= set(assigned)

    def forget(self, gone: Iterable[TopicPartition]) -> None:
        """Note partitions that went."""
        self._unplaced -= set(gone)

    def place(self, consumer: KafkaConsumer) -> None:
        """Begin each new partition at its committed position, or where the client starts a group that has none."""
        for partition in sorted(self._unplaced & consumer.assignment()):
            try:
                position = self._position(consumer, partition)
            except Exception as error:
                if partition not in consumer.assignment():
                    continue  # it went as fast as it came
                raise translate(error, path=self._path) from error
            if position is not None:
                self.partitions.assign(tuple(partition), position)
                self._unplaced.discard(partition)
                log.info("%s/%d begins at offset %d.", *partition, position.offset)

    def _position(self, consumer: KafkaConsumer, partition: TopicPartition) -> PartitionPosition | None:
        position: PartitionPosition | None
        committed = consumer.committed(partition, metadata=True, timeout_ms=POSITION_MS)
        if committed is not None:
            first = consumer.beginning_offsets([partition], timeout_ms=POSITION_MS)[partition]
            position = _understand(partition, committed)
            if first > position.offset:
                log.error("Retention deleted %s/%d up to offset %d unread.", *partition, first)
            consumer.seek(partition, max(position.offset, first))
        else:
            offset = consumer.position(partition, timeout_ms=POSITION_MS)
            position = None if offset is None else PartitionPosition(offset, offset)
        if self.once and tuple(partition) not in self._ends:
            self._ends[tuple(partition)] = consumer.end_offsets([partition], timeout_ms=POSITION_MS)[partition]
        return position

    def pause_or_resume(self, consumer: KafkaConsumer) -> None:
        """Pause what may not be read now, and unpause what may."""
        blocked = self.partitions.blocked()
        full = self.draining or self.partitions.room == 0
        paused = consumer.paused()
        for partition in consumer.assignment():
            place = tuple(partition)
            halted = full or place in blocked or partition in self._unplaced or self._is_at_end(consumer, partition)
            if halted != (partition in paused):
                (consumer.pause if halted else consumer.resume)(partition)

    def poll(self, consumer: KafkaConsumer, wait_s: float) -> list[Any]:
        """Wait for records and return what they are handed out as."""
        try:
            polled = poll_once(consumer, wait_s, max(self.partitions.room, 1))
        except Exception as error:
            raise translate(error, path=self._path) from error
        self._note_lag(consumer)
        return [out for partition, records in polled.items() for out in self._take(consumer, partition, records)]

    def _note_lag(self, consumer: KafkaConsumer) -> None:
        if time.monotonic() >= self._lag_at_s:
            self._lag_at_s = time.monotonic() + LAG_S
            lags = {tuple(place): lag_of(consumer, place) for place in consumer.assignment() - self._unplaced}
            self.lag = {place: lag for place, lag in lags.items() if lag is not None}

    def _take(self, consumer: KafkaConsumer, partition: TopicPartition, records: Sequence[Any]) -> list[Any]:
        """Hand the records of one partition out, up to the first that has to wait."""
        place: Place = tuple(partition)
        taken = []
        for record in records:
            ledger = self.partitions.ledger(place)
            size_bytes = len(record.value or b"")
            if ledger is None or self.partitions.must_wait(place, record.offset, size_bytes):
                consumer.seek(partition, record.offset)
                break
            if self.once and record.offset >= self._ends.get(place, 0):
                break
            self._note_gone(place, ledger.pass_over(record.offset))
            position = self.partitions.start(place, record.offset, size_bytes)
            if position is not None:
                taken.append(self._hand_out(record, position, ledger.assignment))
        return taken

    def _note_gone(self, place: Place, gone: Sequence[int]) -> None:
        if gone:
            self.lost_to_retention += len(gone)
            log.error("%d unfinished clips of %s/%d are gone from the topic.", len(gone), *place)

    def _is_at_end(self, consumer: KafkaConsumer, partition: TopicPartition) -> bool:
        end = self._ends.get(tuple(partition))
        if end is None or partition in self._unplaced:
            return False
        offset = consumer.position(partition, timeout_ms=POSITION_MS)
        return offset is not None and offset >= end

    def is_at_the_ends(self, consumer: KafkaConsumer) -> bool:
        """Tell whether everything that was there at the start has been handed out.

        A member without partitions is at the ends once it has stayed so for a while: the client may join before it
        knows the topics, and the group hands partitions over in a second round.
        """
        assigned = consumer.assignment()
        if assigned:
            self._idle_since_s = None
            return not self._unplaced and all(self._is_at_end(consumer, partition) for partition in assigned)
        self._idle_since_s = self._idle_since_s or time.monotonic()
        return time.monotonic() - self._idle_since_s > IDLE_MEMBER_S


def _understand(partition: TopicPartition, committed: Any) -> PartitionPosition:
    """Return the committed position; one that another program wrote says nothing beyond its offset."""
    try:
        return decode_position(committed.offset, committed.metadata)
    except ValueError as error:
        log.warning("What is finished above offset %d of %s/%d is unknown: %s.", committed.offset, *partition, error)
        return PartitionPosition(committed.offset, committed.offset)


def is_skipped(taken: Any) -> bool:
    """Tell whether a record is only passed over: its publication goes in line for the next commit."""
    return isinstance(taken, Publication)
