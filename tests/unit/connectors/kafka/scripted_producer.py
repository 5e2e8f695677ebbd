"""A scripted producer and a scripted committer: what is written and stored, and what fails, are data.

:class:`ScriptedProducer` stands for :class:`connectors.kafka.client.producer.TopicProducer`, and
:class:`ScriptedCommitter` for a :class:`connectors.kafka.consumer.committer.Committer`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.client.consumer import OffsetAndMetadata, TopicPartition
from connectors.kafka.consumer.committer import Unknown, offsets_of
from connectors.kafka.record import PendingCommit, ProducerRecord
from tests.unit.connectors.kafka.scripted_client import Faults, ScriptedConsumer


@dataclass
class Sending:
    """What becomes of a record: acknowledged, or ``exception``; without an answer, nothing."""

    is_done: bool = True
    exception: BaseException | None = None

    def failed(self) -> bool:
        return self.is_done and self.exception is not None

    def get(self, timeout: float) -> None:
        if self.exception is not None:
            raise self.exception


@dataclass
class ScriptedProducer:
    """A producer that does one transaction at a time. What was committed is in ``written``, positions in the consumer.

    ``answers`` say what becomes of records by their values; ``steps`` notes the calls.
    """

    consumer: ScriptedConsumer
    faults: Faults = field(default_factory=Faults)
    answers: dict[bytes | None, Sending] = field(default_factory=dict)
    written: list[ProducerRecord] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    is_abandoned: bool = False
    _records: list[ProducerRecord] = field(default_factory=list)
    _offsets: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)

    def _do(self, step: str) -> None:
        assert not self.is_abandoned
        self.steps.append(step)
        self.faults.meet(step)

    def init_transactions(self) -> None:
        self._do("init_transactions")

    def begin_transaction(self) -> None:
        self._records, self._offsets = [], {}
        self._do("begin_transaction")

    def send(self, record: ProducerRecord) -> Sending:
        self._do("send")
        self._records.append(record)
        return self.answers.get(record.value, Sending())

    def flush(self, limit_s: float) -> None:
        self._do("flush")
        self.written += [record for record in self._records if not self.answers.get(record.value, Sending()).failed()]
        self._records = []

    def add_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: Any, deadline_s: float) -> None:
        self._do("add_offsets")
        self._offsets.update(offsets)

    def begin_commit(self) -> str:
        self._do("begin_commit")
        return "commit"

    def wait(self, step: str, deadline_s: float) -> None:
        self._do("wait")
        self.written += self._records
        self.consumer.store(self._offsets)

    def abort(self, deadline_s: float) -> None:
        self._do("abort")

    def abandon(self) -> None:
        self.is_abandoned = True


@dataclass
class Lost(Exception):
    """A commit whose answer got lost; it happened, or it did not."""

    happened: bool


class ScriptedCommitter:
    """Stores positions in the consumer, unless the ``script`` has a fault for the commit or ``prepare`` fails."""

    def __init__(self, consumer: ScriptedConsumer, *script: Exception | None) -> None:
        self.consumer = consumer
        self.script = deque(script)
        self.faults = Faults()
        self.commits: list[list[PendingCommit]] = []  # those that happened
        self.tries = 0
        self.prepared = 0
        self.is_closed = False

    def prepare(self) -> None:
        self.faults.meet("prepare")
        self.prepared += 1

    def commit(self, pending: Sequence[PendingCommit], positions: Any, consumer: Any, limit_s: float) -> None:
        assert consumer is self.consumer
        self.tries += 1
        fault = self.script.popleft() if self.script else None
        if fault is None or (isinstance(fault, Lost) and fault.happened):
            consumer.store(offsets_of(positions))
            self.commits.append(list(pending))
        if isinstance(fault, Lost):
            raise Unknown("no answer")
        if fault is not None:
            raise fault

    def close(self, limit_s: float) -> None:
        self.is_closed = True
