"""Reading: canaries over what kafka-python does with records that it holds, and with joins that outlast a round."""

import socket
import time
from collections.abc import Callable

import pytest
from kafka.util import Timer

from connectors.kafka_client import (
    KafkaAdminClient,
    KafkaConsumer,
    NewTopic,
    TopicPartition,
    is_joined,
    open_consumer,
    open_reader,
    poll_once,
)
from connectors.kafka_settings import KafkaConnectionSettings, KafkaSourceSettings
from tests.kafka.stand_in import produce

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


MUCH = bytes(8 * 2**20)  # more than a small send buffer takes at once


def read_until_quiet(reader: KafkaConsumer) -> int:
    """Return how many records come until none came for some rounds."""
    count = quiet = 0
    while quiet < 5:
        polled = poll_once(reader, 0.2, 1)
        count += sum(map(len, polled.values()))
        quiet = 0 if polled else quiet + 1
    return count


def test_a_partition_that_was_paused_half_read_goes_on(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic("clips", partitions=2)
    produce(bootstrap, topic, [b"clip"] * 40)
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
    reader.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    first = {}
    while not first:
        first = poll_once(reader, 0.2, 1)
    (half_read,) = first

    reader.pause(half_read)
    others = read_until_quiet(reader)
    reader.resume(half_read)
    rest = read_until_quiet(reader)
    reader.close()

    assert 0 < others < 39
    assert others + rest == 39


def poll_plainly(consumer: KafkaConsumer, wait_s: float, max_records: int) -> object:
    """One round of kafka-python's own."""
    return consumer._poll_once(Timer(int(wait_s * 1000)), max_records)


@pytest.mark.parametrize(("poll", "joins"), [(poll_plainly, False), (poll_once, True)], ids=["the client", "captiond"])
def test_a_topic_that_appears_is_joined_for_however_short_the_rounds_are(
    bootstrap: str, admin: KafkaAdminClient, name: str, poll: Callable[..., object], *, joins: bool
) -> None:
    settings = KafkaSourceSettings(bootstrap_servers=bootstrap, topics=name, group_id=name)
    consumer = open_consumer(settings, source="test", buffer_bytes=2**20, max_records=8, path="sources.test")
    consumer.subscribe(topics=[name])
    until(lambda: poll(consumer, 0.1, 8) is not None and is_joined(consumer), 30)
    assert not consumer.assignment()
    admin.create_topics([NewTopic(name, 1, 1)])
    admin.wait_for_topics([name])
    consumer._client.cluster.request_update()

    until(lambda: poll(consumer, 0.001, 8) is not None and bool(consumer.assignment()), 30 if joins else 3)
    joined = consumer.assignment()
    consumer.close(autocommit=False, timeout_ms=5000)

    assert bool(joined) == joins


def test_a_connection_that_still_has_something_to_send_is_closed_with_its_client(bootstrap: str) -> None:
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
    reader.topics()  # a round trip: one connection at least stands
    connections = reader._client._manager._conns.values()
    transports = [connection.transport for connection in connections if connection.connected]
    for transport in transports:
        transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.write(len(MUCH).to_bytes(4) + MUCH)

    reader.close()

    assert transports
    assert all(transport._sock is None or transport._sock.fileno() == -1 for transport in transports)


def until(came: Callable[[], bool], limit_s: float) -> None:
    """Poll until it came, or the limit is over."""
    end_s = time.monotonic() + limit_s
    while not came() and time.monotonic() < end_s:
        pass
