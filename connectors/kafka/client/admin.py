"""The admin client, and what it tells about topics: whether they are there, may be used, and take how much."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic

from connectors.errors import ConfigurationError
from connectors.kafka.client.connection import open_client
from connectors.kafka.client.settings import connection_settings
from connectors.kafka.settings import KafkaConnectionSettings

__all__ = [
    "BROKER_RECORD_BYTES",
    "KafkaAdminClient",
    "NewTopic",
    "OutputTopic",
    "check_topics",
    "describe_outputs",
    "open_admin",
]

log = logging.getLogger(__name__)

BROKER_RECORD_BYTES = 1_048_588  # Kafka's default of max.message.bytes
_UNKNOWN_TOPIC, _FORBIDDEN_TOPIC = 3, 29  # Kafka's error codes


def open_admin(settings: KafkaConnectionSettings, *, path: str = "") -> KafkaAdminClient:
    """Return a client that asks about topics, groups and rights."""
    return open_client(KafkaAdminClient, connection_settings(settings, path=path), path=path)


def check_topics(
    settings: KafkaConnectionSettings, topics: Collection[str], operation: str, *, path: str
) -> dict[str, int]:
    """Return the number of partitions of each topic; :class:`ConfigurationError` names those missing or forbidden."""
    admin = open_admin(settings, path=path)
    try:
        described = {topic["name"]: topic for topic in admin.describe_topics(list(topics))}
    finally:
        admin.close()
    partitions = {}
    for name in sorted(topics):
        topic = described.get(name, {})
        code = topic.get("error_code", _UNKNOWN_TOPIC)
        allowed = [str(right).upper() for right in topic.get("authorized_operations") or ()]
        if code == _FORBIDDEN_TOPIC or (code == 0 and allowed and operation not in allowed):
            right = operation.lower()
            raise ConfigurationError(f"the user has no right to {right} the topic {name!r}", path=path)
        if code == _UNKNOWN_TOPIC:
            raise ConfigurationError(f"there is no topic {name!r}, and captiond creates none", path=path)
        partitions[name] = len(topic.get("partitions", ()))
    return partitions


@dataclass(frozen=True, slots=True)
class OutputTopic:
    """What an output topic takes: records up to ``max_record_bytes``; a compacted one keeps the last of a key alone."""

    max_record_bytes: int = BROKER_RECORD_BYTES
    is_compacted: bool = False


def describe_outputs(
    settings: KafkaConnectionSettings, topics: Collection[str], *, path: str
) -> dict[str, OutputTopic]:
    """Return what each topic takes; where the user may not ask, the brokers' own default is assumed."""
    asked = [ConfigResource("TOPIC", name, ["max.message.bytes", "cleanup.policy"]) for name in topics]
    admin = open_admin(settings, path=path)
    try:
        found: dict[str, Any] = next(iter(admin.describe_configs(asked, config_filter="all").values()), {})
        return {name: _output_topic(found.get(name, {})) for name in topics}
    except Exception as error:
        log.info("What the output topics take can't be asked (%s); the brokers' defaults are assumed.", error)
        return {name: OutputTopic() for name in topics}
    finally:
        admin.close()


def _output_topic(configs: Mapping[str, Any]) -> OutputTopic:
    def value(key: str, default: str) -> str:
        given = configs.get(key, default)
        return str(given.get("value", default) if isinstance(given, dict) else given)

    return OutputTopic(
        int(value("max.message.bytes", str(BROKER_RECORD_BYTES))), "compact" in value("cleanup.policy", "delete")
    )
