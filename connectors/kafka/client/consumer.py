"""kafka-python's consumer as captiond uses it: one round of polling at a time, and never a wait without a limit."""

from typing import Any, Protocol

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition
from kafka.util import Timer

from connectors.kafka.client.connection import check_client_settings, open_client
from connectors.kafka.client.settings import consumer_settings, reader_settings
from connectors.kafka.client.workarounds import Assignor, positions_kept, resume_loops, work_around_membership
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSourceSettings

__all__ = [
    "Consumer",
    "ConsumerRebalanceListener",
    "ConsumerRecord",
    "KafkaConsumer",
    "OffsetAndMetadata",
    "TopicPartition",
    "is_stable",
    "open_consumer",
    "open_reader",
]


class ConsumerRecord(Protocol):
    """A record as the client returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """kafka-python's consumer, with what it does not tell in public."""

    def poll_once(self, wait_s: float, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Poll for one round, at most ``wait_s``.

        ``KafkaConsumer.poll`` goes round until records come. When the first round revokes partitions, its second tells
        the group that they are free, before the caller has committed for them. One round ends before that.

        Records that came for a partition while it was paused are kept aside. kafka-python 3.0.12 takes them up again
        only while it holds nothing else, and counts what is used up as something: the partition would then stand still
        for ever.
        """
        resume_loops(self)
        self._fetcher._next_partition_records = self._fetcher._next_partition_records or None
        with positions_kept(self):
            polled: dict[TopicPartition, list[ConsumerRecord]] = self._poll_once(Timer(int(wait_s * 1000)), max_records)
        return polled

    def is_reachable(self) -> bool:
        """Tell whether the group's coordinator is known; the heartbeats forget it when it does not answer."""
        return not self._coordinator.coordinator_unknown()

    def is_joined(self) -> bool:
        """Tell whether the group has decided which partitions are the consumer's."""
        return is_stable(self.group_metadata())

    def lag(self, partition: TopicPartition) -> int | None:
        """Return how many offsets lie between the position and the end that the last fetch saw, without asking anybody.

        None before the first fetch, and for a partition that has gone meanwhile.
        """
        try:
            end, position = self.highwater(partition), self.position(partition, timeout_ms=0)
        except kafka_errors.KafkaError:
            return None
        return None if end is None or position is None else max(end - position, 0)


def is_stable(group: Any) -> bool:
    """Tell whether the metadata of a consumer's group is that of a member whose group is not changing."""
    return bool(group.state == MemberState.STABLE)


def open_consumer(
    settings: KafkaSourceSettings, *, source: str, buffer_bytes: int, max_records: int, path: str
) -> Consumer:
    """Return a consumer that has reached a broker and is not yet in its group; see :func:`consumer_settings`."""
    check_client_settings(settings.consumer, Consumer, path=f"{path}.consumer")
    given = consumer_settings(settings, source=source, buffer_bytes=buffer_bytes, max_records=max_records, path=path)
    consumer: Consumer = open_client(Consumer, given | {"partition_assignment_strategy": [Assignor]}, path=path)
    work_around_membership(consumer)
    return consumer


def open_reader(settings: KafkaConnectionSettings, *, path: str = "", **more: Any) -> Consumer:
    """Return a consumer outside any group's assignment, for reading a topic once from its start to its end."""
    reader: Consumer = open_client(Consumer, more | reader_settings(settings, path=path), path=path)
    return reader
