"""The ways in which positions become durable: plain commits, or transactions with the records that they stand for."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from connectors.kafka.client.consumer import Consumer, OffsetAndMetadata, TopicPartition, is_stable
from connectors.kafka.client.errors import BrokerAway, NotAMember, RecordTooLarge, translate
from connectors.kafka.client.producer import Acknowledgement, TopicProducer, fault_of
from connectors.kafka.consumer.assigned_partitions import Place
from connectors.kafka.offset_ledger import PartitionPosition, encode_position
from connectors.kafka.record import PendingCommit, ProducerRecord

log = logging.getLogger(__name__)

PLAIN_COMMIT_S = 3.0  # a commit takes some milliseconds and may be asked for again at any time
ABORT_S = 3.0  # an abort costs as much as a commit, some 60 ms; a broker that takes longer is away

Positions = Mapping[Place, PartitionPosition]
Sent = tuple[PendingCommit, Acknowledgement]


class TooLarge(Exception):
    """The records of these pending commits are refused for their size; nothing was committed."""

    def __init__(self, pending: Sequence[PendingCommit], reason: str) -> None:
        super().__init__(reason)
        self.pending = pending


class Unknown(Exception):
    """A commit was asked for and not answered: it may have happened."""


class Committer(Protocol):
    """Makes records and positions durable. Every call returns within its limit, and commits all or nothing."""

    def prepare(self) -> None:
        """Do what has to be done before the group is joined, and again after :class:`Unknown`."""
        ...

    def commit(
        self, pending: Sequence[PendingCommit], positions: Positions, consumer: Consumer, limit_s: float
    ) -> None:
        """Commit; a ``KafkaFault`` or :class:`TooLarge` means it did not happen, :class:`Unknown` that it may have."""
        ...

    def close(self, limit_s: float) -> None:
        """Let go."""
        ...


def offsets_of(positions: Positions) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return the positions as the client takes them."""
    return {
        TopicPartition(*place): OffsetAndMetadata(position.offset, encode_position(position), -1)
        for place, position in positions.items()
    }


class OffsetCommitter:
    """Commits positions alone; the records were written and acknowledged before."""

    def prepare(self) -> None:
        """Nothing: a plain commit that is asked for twice does no harm."""

    def commit(
        self, pending: Sequence[PendingCommit], positions: Positions, consumer: Consumer, limit_s: float
    ) -> None:
        """Commit the positions; the broker refuses them when the group has moved on."""
        if not consumer.is_reachable():
            raise BrokerAway("the group's coordinator is away")  # the client would wait for it, and poll nothing
        try:
            consumer.commit(offsets_of(positions), timeout_ms=int(min(limit_s, PLAIN_COMMIT_S) * 1000))
        except Exception as error:
            raise translate(error) from error

    def close(self, limit_s: float) -> None:
        """Nothing is held."""


class TransactionCommitter:
    """Commits records and positions in one transaction.

    A producer whose last commit got no answer is never used again: a delayed answer could end the next transaction
    (Kafka's protocol closes that only for clients that know KIP-890). :meth:`prepare` makes a new one under the same
    transactional id, which ends what the old one left open, one way or the other, before it returns.
    """

    def __init__(self, connect: Callable[[], TopicProducer]) -> None:
        self._connect = connect
        self._producer: TopicProducer | None = None

    def prepare(self) -> None:
        """Make the producer and end what an earlier one with the same transactional id left open."""
        self._make_producer()

    def _make_producer(self) -> TopicProducer:
        self._abandon()
        producer = self._connect()
        try:
            producer.init_transactions()
        except Exception as error:
            producer.abandon()
            raise translate(error) from error
        self._producer = producer
        return producer

    def commit(
        self, pending: Sequence[PendingCommit], positions: Positions, consumer: Consumer, limit_s: float
    ) -> None:
        """Commit all of it or nothing, within ``limit_s`` and one abort.

        1. The records are sent.
        2. The positions are added under the group's present membership; the broker refuses them when it has changed.
        3. Every record is acknowledged. The commit itself waits for them too, but kafka-python 3.0.12 then commits the
           rest of a transaction whose records were given up because nothing answered in time.
        4. The transaction is committed.

        What fails before step 4 is aborted. From step 4 on a failure without the broker's word is :class:`Unknown`.
        """
        if not consumer.is_reachable():
            raise BrokerAway("the group's coordinator is away")
        producer = self._producer or self._make_producer()
        deadline_s = time.monotonic() + limit_s
        sent: list[Sent] = []
        try:
            producer.begin_transaction()
            for commit in pending:
                for record in commit.records:
                    sent.append((commit, _send(producer, commit, record)))  # 1
            group = consumer.group_metadata()
            if group.generation_id < 0 or not is_stable(group):
                raise NotAMember("the group is changing")  # without a generation the broker would not fence us
            producer.add_offsets(offsets_of(positions), group, deadline_s)  # 2
            for _, acknowledgement in sent:
                acknowledgement.get(timeout=max(deadline_s - time.monotonic(), 0.001))  # 3
            step = producer.begin_commit()  # 4
        except Exception as error:
            raise self._undo(producer, error, sent) from error
        try:
            producer.wait(step, deadline_s)
        except Exception as error:
            self._abandon()
            raise Unknown(str(error)) from error

    def _undo(self, producer: TopicProducer, error: Exception, sent: Sequence[Sent]) -> Exception:
        """End a transaction that did not happen, and return why.

        Only a producer whose group moved on or whose record was too large is in order and goes on after an abort. One
        that gave records up is replaced: kafka-python 3.0.12 can leave the partition of an expired batch muted.
        """
        fault = _explain(error, sent)
        if not isinstance(fault, NotAMember | TooLarge):
            self._abandon()
            return fault
        try:
            producer.abort(time.monotonic() + ABORT_S)
        except Exception as failure:
            log.info("A transaction could not be aborted (%s); its producer is replaced.", failure)
            self._abandon()  # its successor's start aborts the transaction
        return fault

    def _abandon(self) -> None:
        if self._producer is not None:
            self._producer.abandon()
            self._producer = None

    def close(self, limit_s: float) -> None:
        """Let go of the producer; no transaction is open between commits."""
        self._abandon()


def _send(producer: TopicProducer, commit: PendingCommit, record: ProducerRecord) -> Acknowledgement:
    try:
        return producer.send(record)
    except Exception as error:
        fault = translate(error)
        if isinstance(fault, RecordTooLarge):
            raise TooLarge([commit], str(fault)) from error
        raise


def _explain(error: Exception, sent: Sequence[Sent]) -> Exception:
    """Return what the failure means: of the transaction, or of single records in it."""
    if isinstance(error, TooLarge):
        return error
    if refused := [commit for commit, answer in sent if isinstance(fault_of(answer), RecordTooLarge)]:
        return TooLarge(refused, "the broker refuses a record of this size")
    return translate(error)
