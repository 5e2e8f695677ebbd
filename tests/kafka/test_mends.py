"""Canaries over kafka-python: each shows what the client does by itself, or would do, and that the mend holds."""

import socket
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from kafka import KafkaConsumer
from kafka.util import Timer

from connectors.kafka_client import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    NewTopic,
    TopicPartition,
    is_joined,
    open_consumer,
    open_reader,
    poll_once,
)
from connectors.kafka_mends import resume_join
from connectors.kafka_settings import KafkaConnectionSettings, KafkaSourceSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
MUCH = bytes(8 * 2**20)  # more than a small send buffer takes at once


class Heard(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, list[int]]] = []

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.events.append(("assigned", sorted(each.partition for each in assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.events.append(("revoked", sorted(each.partition for each in revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.events.append(("lost", sorted(each.partition for each in lost)))


@pytest.fixture
def member(bootstrap: str, name: str) -> Iterator[KafkaConsumer]:
    """A consumer of a topic and in a group of the test's name; not subscribed yet."""
    settings = KafkaSourceSettings(bootstrap_servers=bootstrap, topics=name, group_id=name)
    consumer = open_consumer(settings, source="test", buffer_bytes=2**20, max_records=8, path="sources.test")
    yield consumer
    consumer.close(autocommit=False, timeout_ms=5000)


def poll_plainly(consumer: KafkaConsumer, wait_s: float, max_records: int) -> object:
    """One round of kafka-python's own."""
    return consumer._poll_once(Timer(int(wait_s * 1000)), max_records)


def until(came: Callable[[], bool], limit_s: float) -> None:
    """Poll until it came, or the limit is over."""
    end_s = time.monotonic() + limit_s
    while not came() and time.monotonic() < end_s:
        pass


@pytest.mark.parametrize(("poll", "joins"), [(poll_plainly, False), (poll_once, True)], ids=["the client", "captiond"])
def test_a_topic_that_appears_is_joined_for_however_short_the_rounds_are(
    member: KafkaConsumer, admin: KafkaAdminClient, name: str, poll: Callable[..., object], *, joins: bool
) -> None:
    member.subscribe(topics=[name])
    until(lambda: poll(member, 0.1, 8) is not None and is_joined(member), 30)
    assert not member.assignment()
    admin.create_topics([NewTopic(name, 1, 1)])
    admin.wait_for_topics([name])
    member._client.cluster.request_update()

    until(lambda: poll(member, 0.001, 8) is not None and bool(member.assignment()), 30 if joins else 3)

    assert bool(member.assignment()) == joins
    resume_join(member)


def test_a_member_that_was_forgotten_in_the_middle_of_a_join_hears_of_its_loss(
    member: KafkaConsumer, admin: KafkaAdminClient, name: str
) -> None:
    admin.create_topics([NewTopic(name, 2, 1)])
    admin.wait_for_topics([name])
    heard = Heard()
    member.subscribe(topics=[name], listener=heard)
    until(lambda: poll_once(member, 0.1, 8) is not None and bool(heard.events), 30)
    assert heard.events == [("assigned", [0, 1])]

    member._coordinator._generation.member_id = "forgotten"  # what a group says of a member it took for dead
    member._coordinator.request_rejoin()
    until(lambda: poll_once(member, 0.1, 8) is not None and len(heard.events) > 2, 60)

    assert heard.events[1:] == [("lost", [0, 1]), ("assigned", [0, 1])]


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
