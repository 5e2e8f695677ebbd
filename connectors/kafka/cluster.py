"""The cluster that a configuration names: its topics are looked at, and then a client is opened on it.

Where no broker answers, :mod:`connectors.kafka.probe` tells whether waiting can help.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from connectors.errors import ConfigurationError
from connectors.kafka.client.admin import check_topics, describe_outputs
from connectors.kafka.client.consumer import Consumer, open_consumer
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.client.producer import TopicProducer, open_topic_producer
from connectors.kafka.probe import probe_connection
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings


def connect_consumer(
    settings: KafkaSourceSettings, *, source: str, buffer_bytes: int, max_records: int, path: str
) -> Consumer:
    """Reach a broker, look that every topic is there and may be read, and return a consumer not yet in its group."""
    with _told_apart(settings, path=path):
        if settings.topics:
            check_topics(settings, settings.topics, "READ", path=f"{path}.topics")
        return open_consumer(settings, source=source, buffer_bytes=buffer_bytes, max_records=max_records, path=path)


def connect_producer(
    settings: KafkaSinkSettings, sources: Collection[str], transactional_id: str | None = None
) -> TopicProducer:
    """Reach a broker, look that every output topic is there and may be written, and learn what it takes."""
    with _told_apart(settings, path="sink"):
        captions, letters = check_outputs(settings, sources)
        takes = describe_outputs(settings, captions | letters, path="sink")
        return open_topic_producer(settings, takes, transactional_id=transactional_id)


def check_outputs(settings: KafkaSinkSettings, sources: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the caption topics and the dead-letter topics of these sources; all are there and may be written."""
    captions = {topic for source in sources for topic in settings.topics_for(source)}
    letters = {settings.dead_letter_topic_for(source) for source in sources}
    check_topics(settings, captions, "WRITE", path="sink.topic")
    check_topics(settings, letters, "WRITE", path="sink.dead_letter_topic")
    return captions, letters


def explain_outage(settings: KafkaConnectionSettings, *, path: str) -> str:
    """Return what stands in the way of a broker that was reached before; empty when nothing does."""
    try:
        return probe_connection(settings, path=path)
    except ConfigurationError as error:
        return str(error)  # it worked before, so a person may be putting it right: waited for, like any outage


@contextmanager
def _told_apart(settings: KafkaConnectionSettings, *, path: str) -> Iterator[None]:
    """Tell a broker that is away from settings that no broker accepts."""
    try:
        yield
    except BrokerAway:
        probe_connection(settings, path=path)  # raises where waiting can't help
        raise
