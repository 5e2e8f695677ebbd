"""Transactions, below the route: canaries over what kafka-python carries from one to the next."""

from collections.abc import Callable
from typing import Any

import pytest

from connectors.kafka.client.consumer import Consumer, TopicPartition, open_consumer
from connectors.kafka.client.errors import BrokerAway, NotAMember
from connectors.kafka.client.producer import TopicProducer
from connectors.kafka.cluster import connect_producer
from connectors.kafka.consumer.committer import TransactionCommitter
from connectors.kafka.offset_ledger import PartitionPosition
from connectors.kafka.record import PendingCommit, ProducerRecord, SourceRecord
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from tests.kafka.stand_in import read_all

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


def test_positions_that_were_refused_do_not_come_with_the_next_transaction(
    bootstrap: str, make_topic: Callable[..., str]
) -> None:
    topic, output = make_topic("clips", partitions=2), make_topic("captions")
    make_topic("captions.rejected")
    source = KafkaSourceSettings(bootstrap_servers=bootstrap, topics=topic, group_id=topic)
    sink = KafkaSinkSettings(bootstrap_servers=bootstrap, topic=output, dead_letter_topic=f"{output}.rejected")
    consumer = open_consumer(source, source="t", buffer_bytes=2**20, max_records=8, path="sources.t")
    committer = TransactionCommitter(lambda: connect_producer(sink, ["t"], f"captiond.{topic}"))
    try:
        committer.prepare()
        consumer.subscribe(topics=[topic])
        while len(consumer.assignment()) < 2:
            consumer.poll_once(0.2, 1)
        position = PartitionPosition(1, 1, {}, 1)
        with pytest.raises(NotAMember):
            committer.commit([pending(topic, 0, output)], {(topic, 0): position}, Moved(consumer), 10.0)
        committer.commit([pending(topic, 1, output)], {(topic, 1): position}, consumer, 10.0)

        assert consumer.committed(TopicPartition(topic, 0), timeout_ms=5000) is None
        assert consumer.committed(TopicPartition(topic, 1), timeout_ms=5000) == 1
        assert [record.value for record in read_all(bootstrap, output)] == [b"caption of 1"]
    finally:
        committer.close(5.0)
        consumer.close(autocommit=False, timeout_ms=5000)


def test_positions_are_not_committed_without_their_records(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic, output = make_topic("clips", partitions=1), make_topic("captions")
    make_topic("captions.rejected")
    source = KafkaSourceSettings(bootstrap_servers=bootstrap, topics=topic, group_id=topic)
    sink = KafkaSinkSettings(bootstrap_servers=bootstrap, topic=output, dead_letter_topic=f"{output}.rejected")
    consumer = open_consumer(source, source="t", buffer_bytes=2**20, max_records=8, path="sources.t")

    def impatient() -> TopicProducer:
        made = connect_producer(sink, ["t"], f"captiond.{topic}")
        made.producer._accumulator.config["delivery_timeout_ms"] = 0  # each record is given up before it is sent
        return made

    committer = TransactionCommitter(impatient)
    try:
        committer.prepare()
        consumer.subscribe(topics=[topic])
        while not consumer.assignment():
            consumer.poll_once(0.2, 1)
        with pytest.raises(BrokerAway):
            committer.commit([pending(topic, 0, output)], {(topic, 0): PartitionPosition(1, 1)}, consumer, 10.0)
        committer.prepare()  # ends what the producer left open

        assert consumer.committed(TopicPartition(topic, 0), timeout_ms=5000) is None
        assert read_all(bootstrap, output) == []
    finally:
        committer.close(5.0)
        consumer.close(autocommit=False, timeout_ms=5000)
