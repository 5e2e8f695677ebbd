"""Workarounds for what kafka-python 3.0.12 gets wrong about groups, connections and records.

Each has its test over a real broker in ``tests/kafka/test_workarounds.py``, the assignment also one without in
``tests/unit/connectors/kafka/client/test_assignor.py``.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.partitioner import default as default_partitioner
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment
from kafka.record import default_records, memory_records
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from connectors.kafka.client.settings import DIRECT


class ClosedWhenRefused(KafkaNetSocket):  # type: ignore[misc]
    """Connects directly, and closes the socket of a connection that fails.

    The client leaves those to the garbage collector, which in a large process comes round too seldom for an outage of
    hours: it would run out of descriptors.
    """

    SCHEMES = (DIRECT,)

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        """Connect, or close the socket and raise what the client raises."""
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class ClosingClient(KafkaNetClient):  # type: ignore[misc]
    """Stops its thread before it closes, and closes with itself the connections that have something to send.

    The client closes beneath the thread, which then reads from what is gone, and leaves such connections open.
    """

    def close(self, node_id: Any = None) -> None:
        """Close the connection to one node, or everything."""
        if node_id is not None:
            super().close(node_id)
            return
        self._net.stop()
        super().close()
        for connection in list(self._manager._conns.values()):  # those that closed have gone from here
            if connection.transport is not None and connection.transport._sock is not None:
                connection.transport._sock.close()


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Cooperative sticky, with one owner a partition.

    A member of the client that lost its partitions goes on claiming them, and a leader that hears two claims can give
    a partition to one member while another still works on it. Here a member claims what it has, and a leader withholds
    a partition that two members claim until one of them has given it up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owned: Callable[[], Collection[TopicPartition]] = tuple

    def metadata(self, topics: Collection[str]) -> Any:
        """Return what the member tells the leader: topics, and the partitions that it has."""
        self.member_assignment = list(self.owned())
        return super().metadata(topics)

    def assign(self, cluster: Any, members: Any) -> Any:
        """Return each member's share by its id."""
        claims = Counter(
            partition for member in members for partition in self.parse_member_metadata(member.metadata).partitions
        )
        return {
            member: _without({partition for partition, count in claims.items() if count > 1}, share)
            for member, share in super().assign(cluster, members).items()
        }


def _without(disputed: set[TopicPartition], share: Any) -> Any:
    kept: dict[str, list[int]] = defaultdict(list)
    for topic, partitions in share.assigned_partitions:
        kept[topic] += [partition for partition in partitions if TopicPartition(topic, partition) not in disputed]
    return ConsumerProtocolAssignment(share.version, sorted(kept.items()), b"")


def work_around_membership(consumer: KafkaConsumer) -> None:
    """Make a consumer hear of all that it loses, and claim nothing of it. To be called before it joins.

    The client prepares a join once, and calls lost partitions lost while it does. When the group turns out to have
    forgotten the member in the middle of a join, the client starts over without preparing: the member would go on with
    partitions that others have moved on, and commit over them.
    """
    coordinator = consumer._coordinator
    for assignor in coordinator._assignors.values():
        assignor.owned = consumer._subscription.assigned_partitions
    reset = coordinator.reset_generation

    def reset_and_prepare_again(*args: Any, **kwargs: Any) -> None:
        reset(*args, **kwargs)
        coordinator.rejoining = False

    coordinator.reset_generation = reset_and_prepare_again


def resume_loops(consumer: KafkaConsumer) -> None:
    """Start again what the client has ended too early. To be called before each round of polling.

    * The leader of a rejoin because topics changed clears the reason for it half way. When a round of polling ends
      there, the client sees no reason to go on, and never joins.
    * The loops of the heartbeats and of the topics' metadata end for good at an error that is none of Kafka's: a
      certificate that is being replaced, and cannot be read when a connection is made.
    """
    coordinator, cluster = consumer._coordinator, consumer._client.cluster
    if coordinator.rejoining:
        coordinator.request_rejoin()
    if coordinator.stable():
        coordinator._maybe_start_heartbeat_loop()
    if cluster._refresh_loop_future is not None and cluster._refresh_loop_future.is_done:
        cluster._refresh_loop_future = None
        cluster.start_refresh_loop()


@contextmanager
def positions_kept(consumer: KafkaConsumer) -> Iterator[None]:
    """Set partitions back to where they were when the round of polling within fails.

    The client takes records up before it asks for the next ones. When asking fails, it forgets the records and reads on
    behind them.
    """
    before = {partition: state.position for partition, state in consumer._subscription.assignment.items()}
    try:
        yield
    except BaseException:
        for partition, position in before.items():
            if position is not None and partition in consumer.assignment():
                consumer.seek(partition, position.offset)
        raise


class HeaderName(str):
    """A header's name, whatever its bytes: it is encoded as what it was decoded from."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """Return the bytes that the name came in."""
        return super().encode(encoding, errors)


class _NameBytes(bytes):
    __slots__ = ()

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return HeaderName(super().decode(encoding, errors))


class _NamesInAnyBytes(bytearray):
    """A batch's bytes, whose slices decode to header names without an error."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _NameBytes(found) if isinstance(at, slice) else found


class RecordBatch(DefaultRecordBatch):  # type: ignore[misc]
    """Reads a batch whatever bytes its headers' names are.

    Brokers take names that are not UTF-8. The client raises at such a record, and again each time that it is asked for:
    the partition stands still for ever. Here the rest of such a batch is read with names that keep their bytes.
    """

    _buffer: Any

    def _read_msg(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._read_msg(*args, **kwargs)
        except UnicodeDecodeError:
            if isinstance(self._buffer, _NamesInAnyBytes):
                raise
            self._buffer = _NamesInAnyBytes(self._buffer)
            return super()._read_msg(*args, **kwargs)


class _Null(bytes):
    """Stands for a null value until the record is written."""


_NULL = _Null()


def headers_with_nulls(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """Return headers as the client's producer takes them: it refuses null values, which brokers take."""
    return [(name, _NULL if value is None else value) for name, value in headers]


class RecordBatchBuilder(DefaultRecordBatchBuilder):  # type: ignore[misc]
    """Writes the null values of :func:`headers_with_nulls` as null."""

    def append(self, offset: Any, timestamp: Any, key: Any, value: Any, headers: Any) -> Any:
        """Add a record."""
        given = [(name, None if isinstance(held, _Null) else held) for name, held in headers]
        return super().append(offset, timestamp, key, value, given)


_GZIP_LEVEL = 3  # the client's own 9 takes four times as long and makes messages a tenth smaller
_KEPT_HASHES = 1024  # of keys: a clip's messages share one, and the client hashes it in Python for each of them

default_partitioner.murmur2 = lru_cache(_KEPT_HASHES)(default_partitioner.murmur2)
default_records.gzip_encode = partial(default_records.gzip_encode, compresslevel=_GZIP_LEVEL)
memory_records.DefaultRecordBatch = RecordBatch
memory_records.DefaultRecordBatchBuilder = RecordBatchBuilder
