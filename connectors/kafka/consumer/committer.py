"""How positions become durable: as plain commits, or in one transaction with the records that they stand for."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from connectors.kafka.client.consumer import (
    BrokerAway,
    KafkaConsumer,
    MemberState,
    NotAMember,
    OffsetAndMetadata,
    ProducerUnusable,
    RecordTooLarge,
    TopicPartition,
    abandon_producer,
    is_reachable,
    translate,
)
from connectors.kafka.client.producer import Output
from connectors.kafka.consumer.assigned_partitions import Place
from connectors.kafka.offset_ledger import PartitionPosition, encode_position
from connectors.kafka.record import Publication

log = logging.getLogger(__name__)

PLAIN_COMMIT_S = 3.0  # a commit takes some milliseconds and may be asked for again at any time
ABORT_S = 3.0  # an abort costs as much as a commit, some 60 ms; a broker that takes longer is away

Positions = Mapping[Place, PartitionPosition]


class TooLarge(Exception):
    """The records of these publications are refused for their size; nothing was committed."""

    def __init__(self, publications: Sequence[Publication], reason: str) -> None:
        super().__init__(reason)
        self.publications, self.reason = publications, reason


class Unknown(Exception):
    """A commit was asked for and not answered: it may have happened."""


class Committer(Protocol):
    """Makes records and positions durable. Every call returns within its limit, and commits all or nothing."""

    def prepare(self) -> None:
        """Do what has to be done before the group is joined, and again after :class:`Unknown`."""
        ...

    def commit(
        self, publications: Sequence[Publication], positions: Positions, consumer: KafkaConsumer, limit_s: float
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
        self, publications: Sequence[Publication], positions: Positions, consumer: KafkaConsumer, limit_s: float
    ) -> None:
        """Commit the positions; the broker refuses them when the group has moved on."""
        if not is_reachable(consumer):
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

    def __init__(self, open_output: Callable[[], Output]) -> None:
        self._open_output = open_output
        self._output: Output | None = None

    def prepare(self) -> None:
        """Make the producer and end what an earlier one with the same transactional id left open."""
        self._abandon()
        output = self._open_output()
        try:
            output.producer.init_transactions()
        except Exception as error:
            abandon_producer(output.producer)
            raise translate(error) from error
        self._output = output

    def commit(
        self, publications: Sequence[Publication], positions: Positions, consumer: KafkaConsumer, limit_s: float
    ) -> None:
        """Commit all of it or nothing, within ``limit_s`` and one abort.

        1. The records are sent.
        2. The positions are added under the group's present membership; the broker refuses them when it has changed.
        3. Every record is acknowledged. The commit itself waits for them too, but kafka-python 3.0.12 then commits the
           rest of a transaction whose records were given up because nothing answered in time.
        4. The transaction is committed.

        What fails before step 4 is aborted. From step 4 on a failure without the broker's word is :class:`Unknown`.
        """
        if not is_reachable(consumer):
            raise BrokerAway("the group's coordinator is away")
        if self._output is None:
            self.prepare()
        output = self._output
        assert output is not None  # noqa: S101 - prepare makes one or raises
        producer: Any = output.producer
        deadline_s = time.monotonic() + limit_s
        sent: list[tuple[Publication, Any]] = []
        manager = producer._transaction_manager  # its results, unlike the public calls, can be waited for in time
        try:
            producer.begin_transaction()
            # kafka-python 3.0.12 keeps the positions of a transaction whose offsets were refused, and would store them
            # with this one's: positions of partitions that another member may own by now, without their records
            manager._pending_txn_offset_commits.clear()
            _send(output, publications, sent)  # 1
            group = consumer.group_metadata()
            if group.generation_id < 0 or group.state != MemberState.STABLE:
                raise NotAMember("the group is changing")  # without a generation the broker would not fence us
            _wait(producer, manager.send_offsets_to_transaction(offsets_of(positions), group), deadline_s)  # 2
            for _, record in sent:
                record.get(timeout=max(deadline_s - time.monotonic(), 0.001))  # 3
            result = manager.begin_commit()  # 4
        except Exception as error:
            raise self._undo(error, sent) from error
        try:
            _wait(producer, result, deadline_s)
        except Exception as error:
            self._abandon()
            raise Unknown(str(error)) from error

    def _undo(self, error: Exception, sent: list[tuple[Publication, Any]]) -> Exception:
        """End a transaction that did not happen, and return why.

        Only a producer whose group moved on or whose record was too large is in order and goes on after an abort. One
        that gave records up is replaced: kafka-python 3.0.12 can leave the partition of an expired batch muted.
        """
        fault = _explain(error, sent)
        if isinstance(fault, NotAMember | TooLarge):
            self._abort()
        else:
            self._abandon()
        return fault

    def _abort(self) -> None:
        """Abort the open transaction; a producer that can't is abandoned, and its successor's start aborts it."""
        if self._output is None:
            return
        producer: Any = self._output.producer
        try:
            _wait(producer, producer._transaction_manager.begin_abort(), time.monotonic() + ABORT_S)
        except Exception as error:
            log.info("A transaction could not be aborted (%s); its producer is replaced.", error)
            self._abandon()

    def _abandon(self) -> None:
        if self._output is not None:
            abandon_producer(self._output.producer)
            self._output = None

    def close(self, limit_s: float) -> None:
        """Let go of the producer; no transaction is open between commits."""
        self._abandon()


def _send(output: Output, publications: Sequence[Publication], sent: list[tuple[Publication, Any]]) -> None:
    for publication in publications:
        for record in publication.records:
            try:
                sent.append((publication, output.send(record)))
            except Exception as error:
                fault = translate(error)
                if isinstance(fault, RecordTooLarge):
                    raise TooLarge([publication], str(fault)) from error
                raise


def _wait(producer: Any, result: Any, deadline_s: float) -> None:
    producer._sender.wakeup()
    if not result.wait(timeout_ms=max(deadline_s - time.monotonic(), 0.001) * 1000):
        raise ProducerUnusable("the broker did not answer in time")


def _explain(error: Exception, sent: list[tuple[Publication, Any]]) -> Exception:
    """Return what the failure means: of the transaction, or of single records in it."""
    if isinstance(error, TooLarge):
        return error
    refused = []
    for publication, future in sent:
        if future.is_done and future.failed() and isinstance(translate(future.exception), RecordTooLarge):
            refused.append(publication)
    if refused:
        return TooLarge(refused, "the broker refuses a record of this size")
    return translate(error)
