"""kafka-python's consumer as captiond uses it: one round of polling at a time, and never a wait without a limit."""

import base64
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.future import Future
from kafka.protocol.consumer import IsolationLevel
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata, TopicPartition
from kafka.util import Timer

from connectors.kafka.client.connection import check_client_settings, open_client
from connectors.kafka.client.inflating import bound_inflating
from connectors.kafka.client.partition_faults import OutOfRange, PartitionFault, PartitionFaults, Unreadable
from connectors.kafka.client.settings import MAX_FETCH_BYTES, consumer_settings, reader_settings
from connectors.kafka.client.workarounds import Assignor, positions_kept, resume_loops, work_around_membership
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSourceSettings

__all__ = [
    "Consumer",
    "ConsumerGroupMetadata",
    "ConsumerRebalanceListener",
    "ConsumerRecord",
    "KafkaConsumer",
    "OffsetAndMetadata",
    "OutOfRange",
    "PartitionFault",
    "TopicPartition",
    "Unreadable",
    "is_stable",
    "open_consumer",
    "open_reader",
]


_BOUNDS_AN_ANSWER = 4  # the batch that is read, one kept of a paused partition, and the records taken of each


class ConsumerRecord(Protocol):
    """A record as the client returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """kafka-python's consumer, with what it does not tell in public."""

    partition_faults: PartitionFaults | None = None
    _alarm: Future | None = None  # what a poll waits for beside its fetches
    _is_woken = False

    def wake(self) -> None:
        """Let the poll that waits now return, or else the next one. To be called from any thread."""
        self._is_woken = True
        if (alarm := self._alarm) is not None:
            with suppress(Exception):  # the client was closed, or its own thread ended: its next call says so
                self._net.call_soon_threadsafe(_ring(alarm))

    def poll_once(self, wait_s: float, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Poll for one round, at most ``wait_s``.

        ``KafkaConsumer.poll`` goes round until records come. When the first round revokes partitions, its second tells
        the group that they are free, before the caller has committed for them. One round ends before that.

        Records that came for a partition while it was paused are kept aside. kafka-python 3.0.12 takes them up again
        only while it holds nothing else, and counts what is used up as something: the partition would then stand still
        for ever.

        A poll waits for the first answer to a fetch, and one of those that it waits for is :meth:`wake`.

        A topic whose rights are lost raises, also where the metadata says so before a fetch does: such a topic has no
        leader for the client, which would then fetch nothing from it and say nothing.
        """
        resume_loops(self)
        self._fetcher._next_partition_records = self._fetcher._next_partition_records or None
        with positions_kept(self), self._waiting_for_alarm():
            timer = Timer(0 if self._is_woken else int(wait_s * 1000))
            polled: dict[TopicPartition, list[ConsumerRecord]] = self._poll_once(timer, max_records)
        if forbidden := self._cluster.unauthorized_topics & set(self.subscription() or ()):
            raise kafka_errors.TopicAuthorizationFailedError(forbidden)
        return polled

    @contextmanager
    def _waiting_for_alarm(self) -> Iterator[None]:
        """Let a poll wait for :meth:`wake` too: the client's own threads change what it waits for only meanwhile.

        The client forgets what is done as it sends its fetches, just before it waits for them. An alarm that rang by
        then is put among them again, or the poll would wait as if nobody had rung.
        """
        self._alarm = alarm = Future()
        fetcher, send_fetches = self._fetcher, self._fetcher.send_fetches
        fetcher._fetch_futures.append(alarm)

        def send_and_keep_alarm() -> Any:
            sent = send_fetches()
            if alarm not in fetcher._fetch_futures:
                fetcher._fetch_futures.append(alarm)
            return sent

        fetcher.send_fetches = send_and_keep_alarm
        try:
            yield
        finally:
            del fetcher.send_fetches
            self._alarm, self._is_woken = None, False
            with suppress(ValueError):
                fetcher._fetch_futures.remove(alarm)

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

    def take_faults(self) -> dict[TopicPartition, PartitionFault]:
        """Return what single partitions met since the last call."""
        return self.partition_faults.take() if self.partition_faults is not None else {}

    def start_over(self, partition: TopicPartition) -> None:
        """Forget where a partition was read and what is held of it: :meth:`position` then begins as for a new group.

        An answer that is still kept could be of an earlier topic of the same name.
        """
        fetcher = self._fetcher
        self._subscription.request_offset_reset(partition)
        for kept in (fetcher._paused_completed_fetches, fetcher._paused_partition_records):
            kept.pop(partition, None)
        for _ in range(len(fetcher._completed_fetches)):  # the client's own thread adds at the end
            answer = fetcher._completed_fetches.popleft()
            if answer.topic_partition != partition:
                fetcher._completed_fetches.append(answer)
        half_read = fetcher._next_partition_records
        if half_read is not None and half_read.topic_partition == partition:
            fetcher._next_partition_records = None

    def bounds(self, partition: TopicPartition, timeout_ms: float) -> tuple[int, int]:
        """Return the offsets of the partition's first record and behind its last, open transactions included."""
        first: int = self.beginning_offsets([partition], timeout_ms=timeout_ms)[partition]
        level, self._fetcher._isolation_level = self._fetcher._isolation_level, IsolationLevel.READ_UNCOMMITTED
        try:
            end: int = self.end_offsets([partition], timeout_ms=timeout_ms)[partition]
        finally:
            self._fetcher._isolation_level = level
        return first, end

    def has_leader(self, partition: TopicPartition) -> bool:
        """Tell whether a broker leads the partition, as far as is known; a topic that was deleted has none."""
        leader = self._cluster.leader_for_partition(partition)
        if leader is None or leader == -1:
            self._cluster.request_update()
            return False
        return True

    def missing_topics(self) -> list[str]:
        """Return the topics that the consumer reads by name and that were not there when they were last looked at."""
        return sorted(set(self.subscription() or ()) - self._cluster.topics(exclude_internal_topics=False))

    def known_topic_id(self, topic: str) -> str:
        """Return what :meth:`topic_ids` would, from what is known, without asking anybody."""
        return _printed(self._cluster.topic_id(topic))

    def topic_ids(self, topics: Collection[str], timeout_ms: float) -> dict[str, str]:
        """Ask a broker for the ids of topics (KIP-516), as Kafka prints them.

        The id is empty where the brokers have none (before Kafka 2.8). A topic that is not there is left out.

        A broker answers the requests of one connection one after the other, and a fetch that waits for records holds
        up all behind it: the group's coordinator is asked, over the connection of its own that the client has to it,
        unless a join waits there.
        """
        asked = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )

        async def ask() -> Any:
            node = self._coordinator.coordinator() if self.is_joined() else None
            return await self._manager.send(asked, node_id=node)

        answer = self._net.run(self._manager.wait_for, self._manager.call_soon(ask), timeout_ms)
        if any(self._cluster.topic_id(found.name) != found.topic_id for found in answer.topics):
            self._cluster.request_update()
        return {found.name: _printed(found.topic_id) for found in answer.topics if not found.error_code}


async def _ring(alarm: Future) -> None:
    if not alarm.is_done:
        alarm.success(None)


def _printed(topic_id: Any) -> str:
    """Return a topic's id in base64 without padding; empty where there is none."""
    if topic_id is None or not topic_id.int:
        return ""
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


def is_stable(group: ConsumerGroupMetadata) -> bool:
    """Tell whether the metadata of a consumer's group is that of a member whose group is not changing."""
    return bool(group.state == MemberState.STABLE)


def open_consumer(
    settings: KafkaSourceSettings, *, source: str, buffer_bytes: int, max_records: int, path: str
) -> Consumer:
    """Return a consumer that has reached a broker and is not yet in its group; see :func:`consumer_settings`."""
    check_client_settings(settings.consumer, Consumer, path=f"{path}.consumer")
    given = consumer_settings(settings, source=source, buffer_bytes=buffer_bytes, max_records=max_records, path=path)
    consumer = open_client(Consumer, given | {"partition_assignment_strategy": [Assignor]}, path=path)
    work_around_membership(consumer)
    bound_inflating(consumer, buffer_bytes // _BOUNDS_AN_ANSWER)
    consumer.partition_faults = PartitionFaults(consumer)
    return consumer


def open_reader(settings: KafkaConnectionSettings, *, path: str = "", **more: Any) -> Consumer:
    """Return a consumer outside any group's assignment, for reading a topic once from its start to its end."""
    reader = open_client(Consumer, more | reader_settings(settings, path=path), path=path)
    bound_inflating(reader, MAX_FETCH_BYTES, is_strict=True)
    return reader
