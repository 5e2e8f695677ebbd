"""kafka-python's producer as captiond uses it: idempotent, aware of what its topics take, and bounded in its waits."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from connectors.kafka.client.admin import BROKER_RECORD_BYTES, OutputTopic
from connectors.kafka.client.connection import check_client_settings, open_client
from connectors.kafka.client.errors import BrokerAway, ProducerUnusable, RecordTooLarge, translate
from connectors.kafka.client.settings import BATCH_BYTES, producer_settings
from connectors.kafka.record import ProducerRecord
from connectors.kafka.settings import KafkaSinkSettings

__all__ = ["Acknowledgement", "KafkaProducer", "TopicProducer", "fault_of", "open_producer", "open_topic_producer"]

_RECORD_OVERHEAD_BYTES = 128  # of a batch with one record: 61 bytes of header, lengths, time and offset
_MIN_BATCH_BYTES = 256  # below any record of ours, so that each record has a batch of its own


class Acknowledgement(Protocol):
    """What becomes known of a record that the client has been given."""

    is_done: bool
    exception: BaseException | None

    def failed(self) -> bool:
        """Tell whether it is known that the record was not written."""
        ...

    def get(self, timeout: float) -> object:
        """Wait for the acknowledgement, and raise what stands in its way."""
        ...


def fault_of(sent: Acknowledgement, *, path: str = "") -> Exception | None:
    """Return why a record is not acknowledged; None where it is."""
    if not sent.is_done:
        return BrokerAway("a record was not acknowledged in time")
    return translate(sent.exception, path=path) if sent.failed() and sent.exception is not None else None


class TransactionStep(Protocol):
    """A step of a transaction that the client is doing."""

    def wait(self, timeout_ms: float) -> bool:
        """Return whether it was done in time, and raise what stands in its way."""
        ...


@dataclass(frozen=True, slots=True)
class TopicProducer:
    """Sends records, and refuses at once what a topic would refuse for its size.

    A record counts uncompressed: a caption far from the limit is not a matter of how well it compresses.

    The steps of a transaction are the client's own, with a deadline: unlike its public calls, they can be waited for in
    time.
    """

    producer: KafkaProducer
    topics: Mapping[str, OutputTopic]

    def send(self, record: ProducerRecord) -> Acknowledgement:
        """Give the client a record; :class:`RecordTooLarge` where its topic refuses it."""
        size_bytes = _RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
        size_bytes += sum(len(name.encode()) + len(value) + 10 for name, value in record.headers)
        limit_bytes = self.topics.get(record.topic, OutputTopic()).max_record_bytes
        if size_bytes > limit_bytes:
            raise RecordTooLarge(f"{size_bytes} bytes, and topic {record.topic} takes {limit_bytes}")
        sent: Acknowledgement = self.producer.send(record.topic, record.value, record.key, list(record.headers))
        return sent

    def flush(self, limit_s: float) -> None:
        """Wait until every record is acknowledged or given up."""
        self.producer.flush(timeout=limit_s)

    def init_transactions(self) -> None:
        """End what an earlier producer with the same transactional id left open."""
        self.producer.init_transactions()

    def begin_transaction(self) -> None:
        """Begin a transaction that holds nothing.

        kafka-python 3.0.12 keeps the positions of a transaction whose offsets were refused, and would store them with
        this one's: positions of partitions that another member may own by now, without their records.
        """
        self.producer.begin_transaction()
        self.producer._transaction_manager._pending_txn_offset_commits.clear()

    def add_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: Any, deadline_s: float) -> None:
        """Add positions under the group's present membership; the broker refuses them when it has changed."""
        self.wait(self.producer._transaction_manager.send_offsets_to_transaction(offsets, group), deadline_s)

    def begin_commit(self) -> TransactionStep:
        """Ask for the transaction's commit."""
        step: TransactionStep = self.producer._transaction_manager.begin_commit()
        return step

    def abort(self, deadline_s: float) -> None:
        """Abort the open transaction."""
        self.wait(self.producer._transaction_manager.begin_abort(), deadline_s)

    def wait(self, step: TransactionStep, deadline_s: float) -> None:
        """Wait for a step of the transaction."""
        self.producer._sender.wakeup()
        if not step.wait(timeout_ms=max(deadline_s - time.monotonic(), 0.001) * 1000):
            raise ProducerUnusable("the broker did not answer in time")

    def abandon(self) -> None:
        """Let go of the producer at once, without a word to the broker and without waiting.

        ``close`` would flush first, which a producer that is abandoned because nothing answers can't.
        """
        self.producer._unregister_cleanup()
        self.producer._closed = True
        self.producer._sender.force_close()


def open_topic_producer(
    settings: KafkaSinkSettings, topics: Mapping[str, OutputTopic], *, transactional_id: str | None = None
) -> TopicProducer:
    """Return a producer for these topics that has reached a broker.

    Its batches are below what any of the topics takes: when a broker refuses a batch, the client splits it, and that
    leaves records without an answer.
    """
    smallest = min((topic.max_record_bytes for topic in topics.values()), default=BROKER_RECORD_BYTES)
    producer = open_producer(
        settings,
        client_id="captiond-sink",
        path="sink",
        transactional_id=transactional_id,
        batch_bytes=max(min(BATCH_BYTES, smallest // 2), _MIN_BATCH_BYTES),
    )
    return TopicProducer(producer, topics)


def open_producer(
    settings: KafkaSinkSettings,
    *,
    client_id: str,
    path: str,
    transactional_id: str | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> KafkaProducer:
    """Return an idempotent producer that has reached a broker; with ``transactional_id``, one for transactions."""
    check_client_settings(settings.producer, KafkaProducer, path=f"{path}.producer")
    given = producer_settings(
        settings, client_id=client_id, path=path, transactional_id=transactional_id, batch_bytes=batch_bytes
    )
    return open_client(KafkaProducer, given, path=path)
