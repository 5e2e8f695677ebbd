"""A transaction holds its records and positions or nothing, in one order of steps, and is never asked for twice."""

from collections import deque
from typing import Any

import pytest
from kafka.errors import CommitFailedError, KafkaTimeoutError, MessageSizeTooLargeError, ProducerFencedError

from connectors.kafka.client.errors import BrokerAway, NotAMember, ProducerUnusable, RecordTooLarge
from connectors.kafka.consumer.committer import OffsetCommitter, TooLarge, TransactionCommitter, Unknown
from connectors.kafka.offset_ledger import PartitionPosition
from connectors.kafka.record import PendingCommit, ProducerRecord
from tests.unit.connectors.kafka.scripted_client import (
    ScriptedConsumer,
    ScriptedProducer,
    Sending,
    partition,
    pending,
)

PLACE = partition(0)
TO_COMMIT = {PLACE: PartitionPosition(1, 1, {}, 1)}
LIMIT_S = 1.0
WHOLE = ["begin_transaction", "send", "add_offsets", "begin_commit", "wait"]


def caption(value: bytes = b"caption") -> PendingCommit:
    return pending(0, 0, None, ProducerRecord("out", b"key", value, ()))


class Transactions:
    """A committer over scripted producers, of which each is the successor of the one before."""

    def __init__(self) -> None:
        self.consumer: Any = ScriptedConsumer()
        self.consumer.change("assigned", {PLACE})
        self.producers: list[ScriptedProducer] = []
        self.faults = deque[BaseException | None]()  # of connecting
        self.committer = TransactionCommitter(self._connect)

    def _connect(self) -> Any:
        if self.faults and (fault := self.faults.popleft()) is not None:
            raise fault
        self.producers.append(ScriptedProducer(self.consumer))
        return self.producers[-1]

    @property
    def producer(self) -> ScriptedProducer:
        return self.producers[-1]

    def commit(self, *commits: PendingCommit) -> None:
        self.committer.commit(commits or [caption()], TO_COMMIT, self.consumer, LIMIT_S)

    def starts(self) -> "Transactions":
        self.committer.prepare()
        self.producer.steps.clear()
        return self


@pytest.fixture
def transactions() -> Transactions:
    return Transactions().starts()


def test_records_go_before_positions_and_both_before_the_commit(transactions: Transactions) -> None:
    transactions.commit(caption(b"one"), caption(b"two"), pending(0, 1, None))

    assert transactions.producer.steps == ["begin_transaction", "send", "send", "add_offsets", "begin_commit", "wait"]
    assert [record.value for record in transactions.producer.written] == [b"one", b"two"]
    assert transactions.consumer.stored[PLACE].offset == 1


def test_a_producer_serves_many_transactions(transactions: Transactions) -> None:
    transactions.commit()
    transactions.commit()

    assert transactions.producer.steps == WHOLE * 2
    assert len(transactions.producers) == 1


@pytest.mark.parametrize("generation", [-1, 1], ids=["no generation", "a rebalance"])
def test_nothing_is_committed_while_the_group_is_changing(transactions: Transactions, generation: int) -> None:
    transactions.consumer.stable, transactions.consumer.generation = generation < 0, generation

    with pytest.raises(NotAMember, match="the group is changing"):
        transactions.commit()

    assert transactions.producer.steps == ["begin_transaction", "send", "abort"]
    assert not transactions.producer.is_abandoned


def test_positions_that_the_group_refuses_abort_the_transaction(transactions: Transactions) -> None:
    transactions.producer.faults.add("add_offsets", CommitFailedError("the group has moved on"))

    with pytest.raises(NotAMember):
        transactions.commit()

    assert transactions.producer.steps[-1] == "abort"
    assert (transactions.producer.written, transactions.consumer.stored) == ([], {})
    transactions.commit()
    assert len(transactions.producers) == 1


def test_a_record_that_the_client_refuses_for_its_size_is_named(transactions: Transactions) -> None:
    fine, long = caption(b"fine"), caption(b"long")
    transactions.producer.faults.add("send", None, RecordTooLarge("600 bytes, and topic out takes 500"))

    with pytest.raises(TooLarge, match="topic out takes 500") as refused:
        transactions.commit(fine, long)

    assert list(refused.value.pending) == [long]
    assert transactions.producer.steps == ["begin_transaction", "send", "send", "abort"]


def test_records_that_the_broker_refuses_for_their_size_are_named(transactions: Transactions) -> None:
    fine, long = caption(b"fine"), caption(b"long")
    transactions.producer.answers[b"long"] = Sending(exception=MessageSizeTooLargeError("no"))

    with pytest.raises(TooLarge, match="the broker refuses a record of this size") as refused:
        transactions.commit(fine, long)

    assert list(refused.value.pending) == [long]
    assert transactions.producer.steps == ["begin_transaction", "send", "send", "add_offsets", "abort"]


def test_a_send_that_fails_for_an_earlier_record_names_that_record(transactions: Transactions) -> None:
    long, fine = caption(b"long"), caption(b"fine")
    transactions.producer.answers[b"long"] = Sending(exception=MessageSizeTooLargeError("no"))
    transactions.producer.faults.add("send", None, ProducerFencedError("a previous request has failed"))

    with pytest.raises(TooLarge) as refused:
        transactions.commit(long, fine)

    assert list(refused.value.pending) == [long]


def test_a_record_without_an_acknowledgement_is_never_committed_past(transactions: Transactions) -> None:
    transactions.producer.answers[b"caption"] = Sending(exception=KafkaTimeoutError("given up"))

    with pytest.raises(BrokerAway):
        transactions.commit()

    assert "begin_commit" not in transactions.producer.steps
    assert transactions.producer.is_abandoned
    assert transactions.consumer.stored == {}


def test_an_abort_that_fails_replaces_the_producer(transactions: Transactions) -> None:
    transactions.producer.faults.add("add_offsets", CommitFailedError("moved"))
    transactions.producer.faults.add("abort", ProducerUnusable("the broker did not answer in time"))

    with pytest.raises(NotAMember):
        transactions.commit()
    transactions.commit()

    assert [producer.is_abandoned for producer in transactions.producers] == [True, False]
    assert transactions.producer.steps == ["init_transactions", *WHOLE]


@pytest.mark.parametrize("step", ["begin_transaction", "send", "add_offsets", "begin_commit"])
def test_a_producer_that_is_fenced_is_replaced_and_the_commit_did_not_happen(
    transactions: Transactions, step: str
) -> None:
    transactions.producer.faults.add(step, ProducerFencedError("another has the id"))

    with pytest.raises(ProducerUnusable):
        transactions.commit()

    assert transactions.producer.is_abandoned
    assert (transactions.producer.written, transactions.consumer.stored) == ([], {})


def test_a_commit_without_an_answer_is_unknown_and_its_producer_never_used_again(transactions: Transactions) -> None:
    transactions.producer.faults.add("wait", ProducerUnusable("the broker did not answer in time"))

    with pytest.raises(Unknown, match="did not answer in time"):
        transactions.commit()

    assert transactions.producer.is_abandoned
    assert transactions.producer.steps == WHOLE
    transactions.committer.prepare()
    assert transactions.producer.steps == ["init_transactions"]
    assert len(transactions.producers) == 2


def test_a_producer_that_can_not_start_is_abandoned() -> None:
    transactions = Transactions()
    connect = transactions._connect

    def failing() -> Any:
        made = connect()
        made.faults.add("init_transactions", KafkaTimeoutError("no coordinator"))
        return made

    transactions.committer = TransactionCommitter(failing)

    with pytest.raises(BrokerAway, match="no coordinator"):
        transactions.committer.prepare()

    assert transactions.producer.is_abandoned


def test_without_a_coordinator_nothing_begins(transactions: Transactions) -> None:
    transactions.consumer.reachable = False

    for committer in (transactions.committer, OffsetCommitter()):
        with pytest.raises(BrokerAway, match="the group's coordinator is away"):
            committer.commit([caption()], TO_COMMIT, transactions.consumer, LIMIT_S)

    assert (transactions.producer.steps, transactions.consumer.happened) == ([], ["assigned"])


def test_a_committer_that_is_closed_has_let_its_producer_go(transactions: Transactions) -> None:
    transactions.committer.close(LIMIT_S)
    transactions.committer.close(LIMIT_S)

    assert transactions.producer.is_abandoned


def test_a_plain_commit_stores_positions_alone() -> None:
    transactions = Transactions()

    OffsetCommitter().commit([pending(0, 0, None)], TO_COMMIT, transactions.consumer, LIMIT_S)

    assert transactions.consumer.stored[PLACE].offset == 1


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [(CommitFailedError("moved"), NotAMember), (KafkaTimeoutError("late"), BrokerAway), (OSError("cut"), BrokerAway)],
    ids=repr,
)
def test_a_plain_commit_that_fails_says_what_it_means(fault: Exception, meaning: type[Exception]) -> None:
    transactions = Transactions()
    transactions.consumer.faults.add("commit", fault)

    with pytest.raises(meaning):
        OffsetCommitter().commit([pending(0, 0, None)], TO_COMMIT, transactions.consumer, LIMIT_S)
