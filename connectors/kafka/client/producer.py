"""A producer together with what its topics take."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from connectors.kafka.client.consumer import BrokerAway, KafkaProducer, RecordTooLarge, open_producer
from connectors.kafka.client.settings import BATCH_BYTES
from connectors.kafka.probe import BROKER_RECORD_BYTES, OutputTopic, check_topics, describe_outputs, probe_connection
from connectors.kafka.record import OutRecord
from connectors.kafka.settings import KafkaSinkSettings

_RECORD_OVERHEAD_BYTES = 128  # of a batch with one record: 61 bytes of header, lengths, time and offset
_MIN_BATCH_BYTES = 256  # below any record of ours, so that each record has a batch of its own


@dataclass(frozen=True, slots=True)
class Output:
    """Sends records, and refuses at once what a topic would refuse for its size.

    A record counts uncompressed: a caption far from the limit is not a matter of how well it compresses.
    """

    producer: KafkaProducer
    topics: Mapping[str, OutputTopic]

    def send(self, record: OutRecord) -> Any:
        """Give the client a record and return its future; :class:`RecordTooLarge` where its topic refuses it."""
        size_bytes = _RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
        size_bytes += sum(len(name.encode()) + len(value) + 10 for name, value in record.headers)
        limit_bytes = self.topics.get(record.topic, OutputTopic()).max_record_bytes
        if size_bytes > limit_bytes:
            raise RecordTooLarge(f"{size_bytes} bytes, and topic {record.topic} takes {limit_bytes}")
        return self.producer.send(record.topic, record.value, record.key, list(record.headers))


def connect_output(
    settings: KafkaSinkSettings, sources: Collection[str], transactional_id: str | None = None
) -> Output:
    """Reach a broker, look that every output topic is there and may be written, and learn what it takes."""
    captions = {settings.topic_for(source) for source in sources}
    letters = {settings.dead_letter_topic_for(source) for source in sources}
    try:
        check_topics(settings, captions, "WRITE", path="sink.topic")
        check_topics(settings, letters, "WRITE", path="sink.dead_letter_topic")
        topics = describe_outputs(settings, captions | letters, path="sink")
        smallest = min((topic.max_record_bytes for topic in topics.values()), default=BROKER_RECORD_BYTES)
        producer = open_producer(
            settings,
            client_id="captiond-sink",
            path="sink",
            transactional_id=transactional_id,
            batch_bytes=max(min(BATCH_BYTES, smallest // 2), _MIN_BATCH_BYTES),
        )
        return Output(producer, topics)
    except BrokerAway:
        probe_connection(settings, path="sink")  # raises where waiting can't help
        raise


def explain_outage(settings: KafkaSinkSettings) -> str:
    """Return what stands in the way of a broker that was reached before."""
    try:
        return probe_connection(settings, path="sink")
    except ConfigurationError as error:
        return str(error)  # it worked before, so a person may be mending it: waited for, like any outage
