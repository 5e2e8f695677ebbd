"""The checks of a configuration against the cluster that it names: topics, rights, passwords, and what topics do.

What waiting can't put right is a :class:`ConfigurationError` that names the key. That a broker is away is only
mentioned, since the daemon waits for it.
"""

import logging
import re
from collections.abc import Collection

from connectors.errors import ConfigurationError
from connectors.kafka.client.admin import check_topics, describe_outputs, open_admin
from connectors.kafka.client.connection import check_client_settings
from connectors.kafka.client.consumer import Consumer
from connectors.kafka.client.errors import BrokerAway, translate
from connectors.kafka.client.producer import KafkaProducer
from connectors.kafka.cluster import check_outputs
from connectors.kafka.probe import probe_connection
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.media.remote import check_prefixes

log = logging.getLogger(__name__)


def check_source(name: str, settings: KafkaSourceSettings) -> list[str]:
    """Return what is surprising about a source."""
    path = f"sources.{name}"
    check_client_settings(settings.consumer, Consumer, path=f"{path}.consumer")
    check_prefixes(settings.references.url_prefixes, path=f"{path}.references.url_prefixes")
    if away := probe_connection(settings, path=path):
        return [f"Source {name} waits for the broker: {away}."]
    try:
        if settings.topics:
            check_topics(settings, settings.topics, "READ", path=f"{path}.topics")
        known = _check_group(settings, settings.group(name), path=path)
    except BrokerAway as error:
        return [f"Source {name} waits for the broker: {error}."]
    if settings.topic_pattern and not any(re.fullmatch(settings.topic_pattern, topic) for topic in known):
        return [f"Source {name}: no topic is there whose name fits {settings.topic_pattern!r}."]
    return []


def _check_group(settings: KafkaSourceSettings, group: str, *, path: str) -> list[str]:
    """Refuse a group that the user has no rights on; return, for a pattern, the topics that the user may see."""
    known: list[str] = []
    admin = open_admin(settings, path=path)
    try:
        known = list(admin.list_topics()) if settings.topic_pattern else []
        admin.describe_groups([group])
    except Exception as error:
        fault = translate(error, path=path)
        if isinstance(fault, ConfigurationError):
            message = f"the user has no rights on the consumer group {group!r}"
            raise ConfigurationError(message, path=f"{path}.group_id") from error
        log.debug("Group %s can't be asked for: %s", group, fault)  # a new cluster has no coordinator before its use
    finally:
        admin.close()
    return known


def check_sink(settings: KafkaSinkSettings, sources: Collection[str]) -> list[str]:
    """Return what is surprising about the sink of these sources."""
    check_client_settings(settings.producer, KafkaProducer, path="sink.producer")
    if away := probe_connection(settings, path="sink"):
        return [f"The sink waits for the broker: {away}."]
    try:
        captions, _ = check_outputs(settings, sources)
        outputs = describe_outputs(settings, sorted(captions), path="sink")
    except BrokerAway as error:
        return [f"The sink waits for the broker: {error}."]
    return [
        f"Topic {topic} is compacted: of each key it keeps the last caption alone. Set cleanup.policy=delete."
        for topic, output in outputs.items()
        if output.is_compacted
    ]
