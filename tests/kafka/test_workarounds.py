"""Canaries over kafka-python: each shows what the client does by itself, or would do, and that the workaround holds."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError, TopicAuthorizationFailedError, UnknownBrokerIdError
from kafka.util import Timer

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from connectors.kafka.client.consumer import (
    Consumer,
    ConsumerRebalanceListener,
    TopicPartition,
    open_consumer,
    open_reader,
)
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSourceSettings
from testing.kafka.secure_broker import SecureBroker
from tests.kafka.stand_in import produce

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
def member(bootstrap: str, name: str) -> Iterator[Consumer]:
    """A consumer of a topic and in a group of the test's name; not subscribed yet."""
    settings = KafkaSourceSettings(bootstrap_servers=bootstrap, topics=name, group_id=name)
    consumer = open_consumer(settings, source="test", buffer_bytes=2**20, max_records=8, path="sources.test")
    yield consumer
    consumer.close(autocommit=False, timeout_ms=5000)


def poll_plainly(consumer: Consumer, wait_s: float, max_records: int) -> object:
    """One round of kafka-python's own."""
    return consumer._poll_once(Timer(int(wait_s * 1000)), max_records)


def until(came: Callable[[], bool], limit_s: float) -> None:
    """Poll until it came, or the limit is over."""
    end_s = time.monotonic() + limit_s
    while not came() and time.monotonic() < end_s:
        pass


def join(member: Consumer, admin: KafkaAdminClient, name: str, partitions: int) -> None:
    """Make the topic, and poll until the member has all of it."""
    admin.create_topics([NewTopic(name, partitions, 1)])
    admin.wait_for_topics([name])
    member.subscribe(topics=[name])
    until(lambda: member.poll_once(0.1, 8) is not None and len(member.assignment()) == partitions, 30)


@pytest.mark.parametrize(
    ("poll", "joins"), [(poll_plainly, False), (Consumer.poll_once, True)], ids=["the client", "captiond"]
)
def test_a_topic_that_appears_is_joined_for_however_short_the_rounds_are(
    member: Consumer, admin: KafkaAdminClient, name: str, poll: Callable[..., object], *, joins: bool
) -> None:
    member.subscribe(topics=[name])
    until(lambda: poll(member, 0.1, 8) is not None and member.is_joined(), 30)
    assert not member.assignment()
    admin.create_topics([NewTopic(name, 1, 1)])
    admin.wait_for_topics([name])
    member._client.cluster.request_update()

    until(lambda: poll(member, 0.001, 8) is not None and bool(member.assignment()), 30 if joins else 3)

    assert bool(member.assignment()) == joins


def test_a_member_that_was_forgotten_in_the_middle_of_a_join_hears_of_its_loss(
    member: Consumer, admin: KafkaAdminClient, name: str
) -> None:
    admin.create_topics([NewTopic(name, 2, 1)])
    admin.wait_for_topics([name])
    heard = Heard()
    member.subscribe(topics=[name], listener=heard)
    until(lambda: member.poll_once(0.1, 8) is not None and bool(heard.events), 30)
    assert heard.events == [("assigned", [0, 1])]

    member._coordinator._generation.member_id = "forgotten"  # what a group says of a member it took for dead
    member._coordinator.request_rejoin()
    until(lambda: member.poll_once(0.1, 8) is not None and len(heard.events) > 2, 60)

    assert heard.events[1:] == [("lost", [0, 1]), ("assigned", [0, 1])]


@pytest.mark.parametrize("poll", [poll_plainly, Consumer.poll_once], ids=["the client", "captiond"])
def test_what_a_round_took_up_before_it_failed_comes_again(
    bootstrap: str, member: Consumer, admin: KafkaAdminClient, name: str, poll: Callable[..., Any]
) -> None:
    join(member, admin, name, partitions=2)
    produce(bootstrap, name, [b"clip"] * 10, partition=0)
    offsets: list[int] = []

    def take(max_records: int) -> bool:
        offsets.extend(record.offset for records in poll(member, 0.2, max_records).values() for record in records)
        return len(offsets) >= 4

    until(lambda: take(4), 30)  # six more are in the client
    # an answer names a leader that the client does not know yet: what KIP-951 does when a partition moves
    cluster, other = member._client.cluster, TopicPartition(name, 1)
    until(lambda: not member._fetcher.in_flight_fetches(), 10)
    cluster.update_partition_leader(other, 99, cluster.leader_epoch_for_partition(other) + 1)
    with pytest.raises(UnknownBrokerIdError):
        take(8)
    until(lambda: take(8) and len(offsets) == 10, 10 if poll is Consumer.poll_once else 2)

    assert offsets == ([0, 1, 2, 3] if poll is poll_plainly else list(range(10)))


@pytest.mark.thorough
def test_a_certificate_that_cannot_be_read_for_a_moment_ends_no_heartbeats(
    member: Consumer, admin: KafkaAdminClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(member, admin, name, partitions=1)
    manager, coordinator = member._client._manager, member._coordinator

    async def unreadable(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("client.pem")

    async def cut() -> None:
        for connection in list(manager._conns.values()):
            connection.close(KafkaConnectionError("cut"))

    failures: list[str] = []

    def poll() -> bool:
        try:
            return member.poll_once(0.1, 8) is not None
        except FileNotFoundError as error:
            failures.append(str(error))
            return False

    with monkeypatch.context() as files:
        files.setattr(manager, "_build_transport", unreadable)
        member._client._net.run(cut)
        member._client.cluster.request_update()
        ends_s = time.monotonic() + 5  # longer than the heartbeats' interval
        until(lambda: not poll() and time.monotonic() > ends_s, 15)
    assert failures
    readable_s = time.monotonic()
    until(lambda: poll() and coordinator.heartbeat.last_receive > readable_s and member.is_joined(), 20)

    assert coordinator.heartbeat.last_receive > readable_s
    assert not member._client.cluster._refresh_loop_future.is_done


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


def test_a_poll_that_waits_is_woken(member: Consumer, admin: KafkaAdminClient, name: str) -> None:
    """The client has no such call: it waits for its own fetches, and the alarm is put among them."""
    join(member, admin, name, 1)
    member.pause(TopicPartition(name, 0))
    member.poll_once(1, 8)  # nothing is fetched any more
    begun_s = time.monotonic()
    member.poll_once(2, 8)
    assert time.monotonic() - begun_s > 1.9  # nothing else ends a poll
    waker = threading.Timer(0.5, member.wake)
    waker.start()

    begun_s = time.monotonic()
    member.poll_once(60, 8)
    waker.join()
    member.wake()
    member.poll_once(60, 8)  # one that begins afterwards does not wait either

    assert time.monotonic() - begun_s < 30
    assert not member._fetcher._fetch_futures


def test_a_poll_is_woken_also_where_that_comes_before_it_waits(
    member: Consumer, admin: KafkaAdminClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client then forgets the alarm with the fetches that are done, and waits half a second for the others."""
    join(member, admin, name, 1)
    poll, took_s = member._coordinator.poll, []

    def woken_meanwhile(**limits: float) -> object:
        member.wake()
        until(lambda: member._alarm is None or member._alarm.is_done, 10)
        return poll(**limits)

    monkeypatch.setattr(member._coordinator, "poll", woken_meanwhile)
    for _ in range(5):
        begun_s = time.monotonic()
        member.poll_once(10, 8)
        took_s.append(time.monotonic() - begun_s)

    assert sorted(took_s)[1] < 0.25
    assert all(not fetch.is_done for fetch in member._fetcher._fetch_futures)


def test_topics_are_asked_about_without_waiting_for_a_fetch(
    member: Consumer, admin: KafkaAdminClient, name: str
) -> None:
    """A broker answers nothing on a connection while a fetch there waits for records, half a second long."""
    join(member, admin, name, 1)
    took_s = []
    for _ in range(5):
        until(lambda: member.poll_once(0.01, 8) == {} and member._fetcher.in_flight_fetches(), 10)
        begun_s = time.monotonic()
        assert member.topic_ids([name], 5000)[name] == member.known_topic_id(name)
        took_s.append(time.monotonic() - begun_s)

    assert min(took_s) < 0.25


@pytest.mark.parametrize("poll", [poll_plainly, Consumer.poll_once], ids=["the client", "captiond"])
def test_rights_that_are_lost_are_told_also_where_the_metadata_says_it_first(
    secure: SecureBroker, name: str, poll: Callable[..., object]
) -> None:
    """The client then knows no leader, fetches nothing and says nothing: the topic would stand still for ever."""
    secure.make_topics(name)
    secure.allow("READ DESCRIBE", "TOPIC", name)
    secure.allow("READ", "GROUP", name)
    settings = KafkaSourceSettings(**secure.login("captiond"), topics=name, group_id=name)
    member = open_consumer(settings, source="test", buffer_bytes=2**20, max_records=8, path="sources.test")
    try:
        member.subscribe(topics=[name])
        until(lambda: member.poll_once(0.1, 8) == {} and bool(member.assignment()), 30)
        secure.forbid("READ DESCRIBE", "TOPIC", name)
        until(lambda: knows_it_is_forbidden(member), 30)
        if poll is poll_plainly:
            assert poll(member, 0.1, 8) == {}
        else:
            with pytest.raises(TopicAuthorizationFailedError, match=name):
                poll(member, 0.1, 8)
    finally:
        member.close(autocommit=False, timeout_ms=5000)


def knows_it_is_forbidden(member: Consumer) -> bool:
    """Ask for the metadata again, and tell whether the last answer names a topic without rights."""
    member._client.cluster.request_update()
    time.sleep(0.1)
    return bool(member._client.cluster.unauthorized_topics)
