"""The place where the reading of a partition begins: what its group committed, where that still means this topic.

A committed position is of no use where the topic was deleted and made again, where the log ends before it (a cluster
restored from a backup, a leader that had not got the last records) or begins behind it (retention). The partition then
begins where a group without a position does, as ``start_from`` says. That is said once, with the numbers, and counted.
"""

import logging
from collections import Counter
from dataclasses import dataclass, replace

from connectors.kafka.client.consumer import Consumer, OffsetAndMetadata, TopicPartition
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.offset_ledger import PartitionPosition, decode_position

log = logging.getLogger(__name__)

POSITION_MS = 5_000  # an answer from the group's coordinator; when it is over the partition stays paused a while longer

MADE_AGAIN, OUT_OF_RANGE = MOVES = ("topics_made_again", "positions_out_of_range")
"""Counts of partitions whose topics were made again, and of positions without a record."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a partition begins. One that ``moved`` does not begin where its group committed last."""

    position: PartitionPosition
    moved: bool = False


class Placement:
    """Finds out where partitions begin; ``counts`` says how often not where the group was."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter({MADE_AGAIN: 0, OUT_OF_RANGE: 0})

    def find(self, consumer: Consumer, partition: TopicPartition, intact_until: int | None = None) -> Placed | None:
        """Return where a partition begins, and have the consumer read from there; None where nobody answered in time.

        ``intact_until`` is the offset up to which the log is what it was, where a new leader has lost its end.
        """
        topic_id = consumer.topic_ids([partition.topic], timeout_ms=POSITION_MS).get(partition.topic)
        if topic_id is None:
            raise BrokerAway(f"the topic {partition.topic} is not there")
        committed = consumer.committed(partition, metadata=True, timeout_ms=POSITION_MS)
        if committed is None:
            return _at_the_start(consumer, partition, topic_id)
        position = _understand(partition, committed)
        first, end = consumer.bounds(partition, timeout_ms=POSITION_MS)
        if intact_until is not None and not _is_of_another(position, topic_id):
            end = min(end, max(intact_until, first))
            position = replace(position, offset=min(position.offset, end), unfinished={})
        if why := _why_not(position, topic_id, first, end):
            return self._start_over(consumer, partition, position, topic_id, f"{why}: it has {first} to {end}")
        position = replace(position, topic_id=topic_id)
        if position.next_unseen > end:
            return self._after_truncation(consumer, partition, position, end)
        if first > position.offset:
            log.error("Retention deleted %s/%d up to offset %d unread.", *partition, first)
        consumer.seek(partition, max(position.offset, first))
        return Placed(position)

    def _start_over(
        self, consumer: Consumer, partition: TopicPartition, position: PartitionPosition, topic_id: str, why: str
    ) -> Placed | None:
        consumer.start_over(partition)
        placed = _at_the_start(consumer, partition, topic_id)
        if placed is None:
            return None
        at = placed.position.offset
        log.warning(
            "The position of %s/%d, offset %d, %s. It goes on at offset %d, as start_from says.",
            *partition,
            position.offset,
            why,
            at,
        )
        self.counts[MADE_AGAIN if _is_of_another(position, topic_id) else OUT_OF_RANGE] += 1
        return Placed(replace(placed.position, number=position.number), moved=True)

    def _after_truncation(
        self, consumer: Consumer, partition: TopicPartition, position: PartitionPosition, end: int
    ) -> Placed:
        """Begin at an offset that is there, although records above it that were seen are not: all above is unseen."""
        log.warning(
            "%s/%d ends at offset %d and was read up to %d: it goes on at its position, offset %d; clips above it may "
            "be captioned again.",
            *partition,
            end,
            position.next_unseen,
            position.offset,
        )
        self.counts[OUT_OF_RANGE] += 1
        consumer.seek(partition, position.offset)
        return Placed(replace(position, next_unseen=position.offset, unfinished={}), moved=True)

    def note_passed_by(self, partition: TopicPartition, offset: int, first: int) -> None:
        """Tell that the log begins behind the offset that is read next."""
        log.warning(
            "The position of %s/%d, offset %d, is before the start of the log: it begins at %d now. "
            "It goes on as start_from says.",
            *partition,
            offset,
            first,
        )
        self.counts[OUT_OF_RANGE] += 1


def _at_the_start(consumer: Consumer, partition: TopicPartition, topic_id: str) -> Placed | None:
    """Return where the client begins for a group without a position."""
    offset = consumer.position(partition, timeout_ms=POSITION_MS)
    return None if offset is None else Placed(PartitionPosition(offset, offset, topic_id=topic_id))


def _why_not(position: PartitionPosition, topic_id: str, first: int, end: int) -> str:
    """Return why a committed position means nothing in the log that is there; empty where it does."""
    if _is_of_another(position, topic_id):
        return "is of an earlier topic of this name, and this one was made again"
    if position.offset > end:
        return "is beyond the end of the log"
    if position.next_unseen < first:
        return "is before the start of the log"
    return ""


def _is_of_another(position: PartitionPosition, topic_id: str) -> bool:
    return bool(position.topic_id and topic_id) and position.topic_id != topic_id


def _understand(partition: TopicPartition, committed: OffsetAndMetadata) -> PartitionPosition:
    """Return the committed position; one that another program wrote says nothing beyond its offset."""
    try:
        return decode_position(committed.offset, committed.metadata)
    except ValueError as error:
        log.warning("What is finished above offset %d of %s/%d is unknown: %s.", committed.offset, *partition, error)
        return PartitionPosition(committed.offset, committed.offset)
