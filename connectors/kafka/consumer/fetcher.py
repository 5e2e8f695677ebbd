"""The reading of a source's partitions: where each begins, which are paused, and what is delivered.

Every step runs in the consumer thread. A record that can't be taken on is read again later: the partition is set back
to it and paused, so nothing is kept that the budget does not count.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from connectors.contract import ClipPosition, Delivery
from connectors.kafka.client.consumer import Consumer, ConsumerRecord, OffsetAndMetadata, TopicPartition
from connectors.kafka.client.errors import translate
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions, Place
from connectors.kafka.offset_ledger import PartitionPosition, decode_position
from connectors.kafka.record import PendingCommit

log = logging.getLogger(__name__)

POSITION_MS = 5_000  # an answer from the group's coordinator; when it is over the partition stays paused a while longer
LAG_S = 1.0  # how often the lag is looked at; it costs no request
NO_PARTITIONS_S = 5.0  # a second round follows the first within a second, unless another member is slow to answer

Decode = Callable[[ConsumerRecord, ClipPosition, int], Delivery | PendingCommit]
"""Makes a delivery of a record, its position and its assignment, or the pending commit that skips it."""


class Fetcher:
    """The reading half of a consumer thread. With ``once`` it reads to the ends that partitions had when they came."""

    def __init__(self, partitions: AssignedPartitions, decode: Decode, *, once: bool, path: str) -> None:
        self.partitions, self.once = partitions, once
        self.lost_to_retention = 0
        self.draining = False
        self.lag: dict[Place, int] = {}  # of each partition, what was not delivered when it was last looked at
        self._lag_at_s = 0.0
        self._decode, self._path = decode, path
        self._unplaced: set[TopicPartition] = set()
        self._ends: dict[Place, int] = {}
        self._empty_since_s: float | None = None

    def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Note partitions that came; they are paused, and :meth:`place` finds out where they begin."""
        self._unplaced |= set(assigned)

    def forget(self, gone: Iterable[TopicPartition]) -> None:
        """Note partitions that went."""
        self._unplaced -= set(gone)

    def place(self, consumer: Consumer) -> None:
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

    def _position(self, consumer: Consumer, partition: TopicPartition) -> PartitionPosition | None:
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

    def pause_or_resume(self, consumer: Consumer) -> None:
        """Pause what may not be read now, and unpause what may."""
        blocked = self.partitions.blocked()
        full = self.draining or self.partitions.room == 0
        paused = consumer.paused()
        for partition in consumer.assignment():
            place = tuple(partition)
            halted = full or place in blocked or partition in self._unplaced or self._is_at_end(consumer, partition)
            if halted != (partition in paused):
                (consumer.pause if halted else consumer.resume)(partition)

    def poll(self, consumer: Consumer, wait_s: float) -> list[Delivery | PendingCommit]:
        """Wait for records and return what they are decoded to."""
        try:
            polled = consumer.poll_once(wait_s, max(self.partitions.room, 1))
        except Exception as error:
            raise translate(error, path=self._path) from error
        self._note_lag(consumer)
        return [taken for partition, records in polled.items() for taken in self._take(consumer, partition, records)]

    def _note_lag(self, consumer: Consumer) -> None:
        if time.monotonic() >= self._lag_at_s:
            self._lag_at_s = time.monotonic() + LAG_S
            lags = {tuple(place): consumer.lag(place) for place in consumer.assignment() - self._unplaced}
            self.lag = {place: lag for place, lag in lags.items() if lag is not None}

    def _take(
        self, consumer: Consumer, partition: TopicPartition, records: Sequence[ConsumerRecord]
    ) -> list[Delivery | PendingCommit]:
        """Take on the records of one partition, up to the first that has to wait."""
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
                taken.append(self._decode(record, position, ledger.assignment))
        return taken

    def _note_gone(self, place: Place, gone: Sequence[int]) -> None:
        if gone:
            self.lost_to_retention += len(gone)
            log.error("%d unfinished clips of %s/%d are gone from the topic.", len(gone), *place)

    def _is_at_end(self, consumer: Consumer, partition: TopicPartition) -> bool:
        end = self._ends.get(tuple(partition))
        if end is None or partition in self._unplaced:
            return False
        offset = consumer.position(partition, timeout_ms=POSITION_MS)
        return offset is not None and offset >= end

    def is_at_the_ends(self, consumer: Consumer) -> bool:
        """Tell whether everything that was there at the start has been delivered.

        A consumer without partitions is at the ends once it has stayed so for a while: it may join before it knows the
        topics, and the group hands partitions over in a second round.
        """
        assigned = consumer.assignment()
        if assigned:
            self._empty_since_s = None
            return not self._unplaced and all(self._is_at_end(consumer, partition) for partition in assigned)
        self._empty_since_s = self._empty_since_s or time.monotonic()
        return time.monotonic() - self._empty_since_s > NO_PARTITIONS_S


def _understand(partition: TopicPartition, committed: OffsetAndMetadata) -> PartitionPosition:
    """Return the committed position; one that another program wrote says nothing beyond its offset."""
    try:
        return decode_position(committed.offset, committed.metadata)
    except ValueError as error:
        log.warning("What is finished above offset %d of %s/%d is unknown: %s.", committed.offset, *partition, error)
        return PartitionPosition(committed.offset, committed.offset)
