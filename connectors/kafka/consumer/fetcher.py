"""The reading of a source's partitions: which are paused, what is delivered, and what ends an assignment early.

Every step runs in the consumer thread. A record that can't be taken on is read again later: the partition is set back
to it and paused, so nothing is kept that the budget does not count. A partition that can't be read waits, the others go
on. One whose topic was made again, or whose log has lost its end, is placed anew: see :meth:`Fetcher.take_outdated`.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from connectors.contract import ClipPosition, Delivery, Quarantine
from connectors.kafka.client.consumer import Consumer, ConsumerRecord, OutOfRange, PartitionFault, TopicPartition
from connectors.kafka.client.errors import translate
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions, Place
from connectors.kafka.consumer.placement import POSITION_MS, Placed, Placement
from connectors.kafka.consumer.standstills import Standstills
from connectors.kafka.record import PendingCommit, SourceRecord

log = logging.getLogger(__name__)

LAG_S = 1.0  # how often the lag is looked at; it costs no request
PLACE_S = 5.0  # then what has begun is polled, and the others are placed in the next turn
TOPICS_S = 1.0  # how often a broker is asked whether these are still the topics that were placed
TOPICS_MS = 2_000  # its answer; without one the topics count as they were
NO_PARTITIONS_S = 5.0  # a second round follows the first within a second, unless another member is slow to answer

Decode = Callable[[ConsumerRecord, ClipPosition, int, str], Delivery | PendingCommit]
"""Makes a delivery of a record, its position, assignment and generation, or the pending commit that skips it."""


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
        self.placement = Placement()
        self.standstills = Standstills()
        self.moved: list[PendingCommit] = []  # commits that make new beginnings durable; whoever takes them empties it
        self._outdated: dict[TopicPartition, int | None] = {}  # with the offset up to which the log is what it was
        self._faults: dict[TopicPartition, PartitionFault] = {}
        self._topics_at_s = 0.0
        self._ends: dict[Place, int] = {}
        self._empty_since_s: float | None = None

    def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Note partitions that came; they are paused, and :meth:`place` finds out where they begin."""
        self._unplaced |= set(assigned)

    def forget(self, gone: Collection[TopicPartition]) -> None:
        """Note partitions that went."""
        for partition in gone:
            self._unplaced.discard(partition)
            self._outdated.pop(partition, None)
            self._faults.pop(partition, None)
        self.standstills.over(gone)

    def take_outdated(self) -> list[TopicPartition]:
        """Return partitions whose assignment is over, for what was read of them is not what is there now.

        They are to be fenced; :meth:`place` then begins them anew.
        """
        outdated = [partition for partition in self._outdated if partition not in self._unplaced]
        self._unplaced.update(outdated)
        return outdated

    def place(self, consumer: Consumer) -> None:
        """Begin each new partition at its committed position, or where the client starts a group that has none.

        A partition that nobody leads is not asked for: its topic was deleted, or its brokers are away.
        """
        assigned, until_s = sorted(self._unplaced & consumer.assignment()), time.monotonic() + PLACE_S
        for partition in [partition for partition in assigned if self._is_led(consumer, partition)]:
            try:
                if partition in self._outdated:
                    consumer.start_over(partition)
                placed = self.placement.find(consumer, partition, self._outdated.get(partition))
                if placed is not None and self.once and tuple(partition) not in self._ends:
                    self._ends[tuple(partition)] = consumer.end_offsets([partition], timeout_ms=POSITION_MS)[partition]
            except Exception as error:
                if partition not in consumer.assignment():
                    continue  # it went as fast as it came
                raise translate(error, path=self._path) from error
            if placed is not None:
                self._begin(partition, placed)
            if time.monotonic() > until_s:
                break

    def _begin(self, partition: TopicPartition, placed: Placed) -> None:
        position = placed.position
        assignment = self.partitions.assign(tuple(partition), position)
        self._unplaced.discard(partition)
        self._outdated.pop(partition, None)
        self.standstills.over([partition])
        if placed.moved:
            origin = SourceRecord(partition.topic, partition.partition, position.offset, assignment)
            self.moved.append(PendingCommit(origin, Quarantine.NONE))  # says nothing of a clip that begins there
        log.info("%s/%d begins at offset %d.", *partition, position.offset)

    def _is_led(self, consumer: Consumer, partition: TopicPartition) -> bool:
        if consumer.has_leader(partition):
            return True
        self.standstills.note(partition, "no broker leads it; was the topic deleted?")
        return False

    def pause_or_resume(self, consumer: Consumer) -> None:
        """Pause what may not be read now, and unpause what may."""
        blocked = self.partitions.blocked()
        full = self.draining or self.partitions.room == 0
        paused = consumer.paused()
        for partition in consumer.assignment():
            place = tuple(partition)
            waits = place in blocked or partition in self._unplaced or self.standstills.must_wait(partition)
            halted = full or waits or self._is_at_end(consumer, partition)
            if halted != (partition in paused):
                (consumer.pause if halted else consumer.resume)(partition)

    def poll(self, consumer: Consumer, wait_s: float) -> list[Delivery | PendingCommit]:
        """Wait for records and return what they are decoded to. What is looked at now and then is looked at before."""
        self._look_at_topics(consumer, records_came=False)
        self._note_lag(consumer)
        try:
            polled = consumer.poll_once(wait_s, max(self.partitions.room, 1))
        except Exception as error:
            raise translate(error, path=self._path) from error
        self._look_at_topics(consumer, records_came=any(polled.values()))
        self._note_faults(consumer)
        return [taken for partition, records in polled.items() for taken in self._take(consumer, partition, records)]

    def _look_at_topics(self, consumer: Consumer, *, records_came: bool) -> None:
        """Find topics that were made again: their records have the offsets of others.

        A broker is asked now and then while none come, so that those that come need not wait for its answer, and where
        the client's own metadata names another topic, before records of it are taken.
        """
        is_due = time.monotonic() >= self._topics_at_s and (records_came or _answers_soon(consumer))
        if not (is_due or records_came):
            return
        ledgers = {partition: self.partitions.ledger(tuple(partition)) for partition in consumer.assignment()}
        known = {partition: held.topic_id for partition, held in ledgers.items() if held is not None and held.topic_id}
        if not known or not (is_due or any(consumer.known_topic_id(at.topic) != known[at] for at in known)):
            return
        self._topics_at_s = time.monotonic() + TOPICS_S
        try:
            there = consumer.topic_ids({partition.topic for partition in known}, timeout_ms=TOPICS_MS)
        except Exception as error:
            log.debug("What topics are there is not known now: %s", error)
            return
        for partition, topic_id in known.items():
            if there.get(partition.topic, topic_id) not in ("", topic_id) and partition not in self._outdated:
                self._end(partition, None)

    def _end(self, partition: TopicPartition, intact_until: int | None) -> None:
        """Note that what was read of a partition is not what is there now."""
        self._outdated[partition] = intact_until
        self._ends.pop(tuple(partition), None)

    def _note_faults(self, consumer: Consumer) -> None:
        """Deal with what single partitions met: wait, begin anew, or go on where retention has left something."""
        self._faults |= consumer.take_faults()
        for partition, fault in list(self._faults.items()):
            if partition in consumer.assignment() and partition not in self._unplaced | self._outdated.keys():
                if not isinstance(fault, OutOfRange):
                    self.standstills.note(partition, f"offset {fault.offset} can't be read: {fault.reason}")
                elif not self._is_resolved(consumer, partition, fault):
                    continue
            del self._faults[partition]

    def _is_resolved(self, consumer: Consumer, partition: TopicPartition, fault: OutOfRange) -> bool:
        """Find out at which end of the log an offset is not there; False where nobody answers now.

        Behind the log's start the clips in flight are what they were, and go on. Beyond its end they are others'.
        """
        try:
            first, _ = consumer.bounds(partition, timeout_ms=POSITION_MS)
        except Exception as error:
            self.standstills.note(partition, f"offset {fault.offset} is not there: {translate(error)}")
            return False
        if fault.offset < first:
            self.placement.note_passed_by(partition, fault.offset, first)
            consumer.start_over(partition)
        else:
            self._end(partition, fault.intact_until)
        return True

    def _note_lag(self, consumer: Consumer) -> None:
        if time.monotonic() >= self._lag_at_s:
            self._lag_at_s = time.monotonic() + LAG_S
            lags = {tuple(place): consumer.lag(place) for place in consumer.assignment() - self._unplaced}
            self.lag = {place: lag for place, lag in lags.items() if lag is not None}
            for topic in consumer.missing_topics():
                self.standstills.note(topic, "it is not there; was it deleted?")
            self.standstills.look()

    def _take(
        self, consumer: Consumer, partition: TopicPartition, records: Sequence[ConsumerRecord]
    ) -> list[Delivery | PendingCommit]:
        """Take on the records of one partition, up to the first that has to wait."""
        place: Place = tuple(partition)
        taken: list[Delivery | PendingCommit] = []
        if partition in self._outdated:
            return taken
        if records:
            self.standstills.over([partition])
        for record in records:
            ledger = self.partitions.ledger(place)
            size_bytes = _size_of(record)
            if ledger is None or self.partitions.must_wait(place, record.offset, size_bytes):
                consumer.seek(partition, record.offset)
                break
            if self.once and record.offset >= self._ends.get(place, 0):
                break
            self._note_gone(place, ledger.pass_over(record.offset))
            position = self.partitions.start(place, record.offset, size_bytes)
            if position is not None:
                generation = ledger.generation(record.offset, record.timestamp)
                taken.append(self._decode(record, position, ledger.assignment, generation))
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
            return not (self._unplaced or self._outdated) and all(
                self._is_at_end(consumer, partition) for partition in assigned
            )
        self._empty_since_s = self._empty_since_s or time.monotonic()
        return time.monotonic() - self._empty_since_s > NO_PARTITIONS_S


def _answers_soon(consumer: Consumer) -> bool:
    return consumer.is_reachable() and consumer.is_joined()


def _size_of(record: ConsumerRecord) -> int:
    """Return what a clip in flight holds of its record: headers and key are kept for a dead letter."""
    headers_bytes = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers_bytes
