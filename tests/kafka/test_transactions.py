"""Transactions, below the route: canaries over what kafka-python carries from one to the next."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.kafka.client.consumer import Consumer, TopicPartition, open_consumer
from connectors.kafka.client.errors import BrokerAway, NotAMember
from connectors.kafka.client.producer import TopicProducer
from connectors.kafka.cluster import connect_producer
from connectors.kafka.consumer.committer import TransactionCommitter
from connectors.kafka.offset_ledger import PartitionPosition
from connectors.kafka.record import PendingCommit, ProducerRecord, SourceRecord
from connectors.kafka.settings import KafkaSourceSettings
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


class Moved:
    """A consumer that the group has forgotten, by its own account still a member."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def group_metadata(self) -> Any:
        return self._consumer.group_metadata()._replace(member_id="gone")


def pending(topic: str, partition: int, output: str) -> PendingCommit:
    record = ProducerRecord(output, b"key", b"caption of %d" % partition, ())
    return PendingCommit(SourceRecord(topic, partition, 0, 1), None, (record,))


@pytest.fixture
def consumer(make_topics: Callable[..., Topics]) -> Iterator[tuple[Topics, Consumer]]:
    """Topics with two partitions of clips, and a consumer that is not yet in its group."""
    topics = make_topics(2)
    source = KafkaSourceSettings(bootstrap_servers=topics.bootstrap, topics=topics.clips, group_id=topics.clips)
    opened = open_consumer(source, source="t", buffer_bytes=2**20, max_records=8, path="sources.t")
    yield topics, opened
    opened.close(autocommit=False, timeout_ms=5000)


def start(committer: TransactionCommitter, topics: Topics, consumer: Consumer) -> None:
    """Make the producer ready, and poll until the group has given the consumer both partitions."""
    committer.prepare()
    consumer.subscribe(topics=[topics.clips])
    while len(consumer.assignment()) < 2:
        consumer.poll_once(0.2, 1)


def stored(topics: Topics, consumer: Consumer, partition: int) -> int | None:
    """Return the offset that the group has stored."""
    found: int | None = consumer.committed(TopicPartition(topics.clips, partition), timeout_ms=5000)
    return found


def test_positions_that_were_refused_do_not_come_with_the_next_transaction(
    consumer: tuple[Topics, Consumer],
) -> None:
    topics, member = consumer
    topic, output = topics.clips, topics.captions
    committer = TransactionCommitter(lambda: connect_producer(topics.sink_settings(), ["t"], f"captiond.{topic}"))
    try:
        start(committer, topics, member)
        position = PartitionPosition(1, 1, {}, 1)
        with pytest.raises(NotAMember):
            committer.commit([pending(topic, 0, output)], {(topic, 0): position}, Moved(member), 10.0)
        committer.commit([pending(topic, 1, output)], {(topic, 1): position}, member, 10.0)

        assert (stored(topics, member, 0), stored(topics, member, 1)) == (None, 1)
        assert [record.value for record in topics.read()] == [b"caption of 1"]
    finally:
        committer.close(5.0)


def test_positions_are_not_committed_without_their_records(consumer: tuple[Topics, Consumer]) -> None:
    topics, member = consumer
    topic, output = topics.clips, topics.captions

    def impatient() -> TopicProducer:
        made = connect_producer(topics.sink_settings(), ["t"], f"captiond.{topic}")
        made.producer._accumulator.config["delivery_timeout_ms"] = 0  # each record is given up before it is sent
        return made

    committer = TransactionCommitter(impatient)
    try:
        start(committer, topics, member)
        with pytest.raises(BrokerAway):
            committer.commit([pending(topic, 0, output)], {(topic, 0): PartitionPosition(1, 1)}, member, 10.0)
        committer.prepare()  # ends what the producer left open

        assert stored(topics, member, 0) is None
        assert topics.read() == []
    finally:
        committer.close(5.0)
