"""kafka-python's clients: how they are opened and used, and what their errors mean; no other file opens one.

Errors are translated once, by :func:`translate`:

    KafkaFault
    ├── BrokerAway        nothing answers, or not yet: wait and try again; what was sent may or may not have arrived
    ├── NotAMember        the group has moved on: poll, and commit for what is still owned
    ├── ProducerUnusable  fenced, or in an unknown state: make a new one
    └── RecordTooLarge    the topic refuses a record of this size

Everything that only a person can mend (rights, names, passwords) is a :class:`ConfigurationError`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, NewTopic
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.net.sasl import get_sasl_mechanism
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition
from kafka.util import Timer

from connectors.errors import ConfigurationError
from connectors.kafka.client.settings import (
    BATCH_BYTES,
    connection_settings,
    consumer_settings,
    producer_settings,
    reader_settings,
)
from connectors.kafka.client.workarounds import Assignor, ClosingClient, mend_membership, positions_kept, resume
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings

__all__ = [
    "BrokerAway",
    "ConfigResource",
    "ConsumerRebalanceListener",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaFault",
    "KafkaProducer",
    "MemberState",
    "NewTopic",
    "NotAMember",
    "OffsetAndMetadata",
    "ProducerUnusable",
    "RecordTooLarge",
    "TopicPartition",
    "abandon_producer",
    "check_client_settings",
    "get_sasl_mechanism",
    "is_joined",
    "is_reachable",
    "lag_of",
    "open_admin",
    "open_consumer",
    "open_producer",
    "open_reader",
    "poll_once",
    "translate",
]

log = logging.getLogger(__name__)


class KafkaFault(Exception):
    """Something that Kafka or its client refused. Stays within the files that know Kafka."""


class BrokerAway(KafkaFault):
    """Nothing answers, or not yet."""


class NotAMember(KafkaFault):
    """The group has moved on and refuses a commit."""


class ProducerUnusable(KafkaFault):
    """The producer is fenced or in an unknown state."""


class RecordTooLarge(KafkaFault):
    """The client or the broker refuses a record of this size."""


_NOT_A_MEMBER = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.FencedInstanceIdError,
)
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_RIGHTS = {
    kafka_errors.TopicAuthorizationFailedError: "the user has no rights on the topic",
    kafka_errors.GroupAuthorizationFailedError: "the user has no rights on the consumer group",
    kafka_errors.TransactionalIdAuthorizationFailedError: "the user has no rights on the transactional id",
    kafka_errors.ClusterAuthorizationFailedError: "the user has no right to write idempotently to the cluster",
    kafka_errors.SaslAuthenticationFailedError: "the broker refuses the user name or the password",
    kafka_errors.InvalidGroupIdError: "the broker refuses the name of the consumer group",
    kafka_errors.InvalidSessionTimeoutError: "the broker refuses the session time-out",
    kafka_errors.GroupMaxSizeReachedError: "the consumer group has as many members as the broker allows",
    kafka_errors.InconsistentGroupProtocolError: "members of the group use another assignment than cooperative sticky",
    kafka_errors.UnsupportedCompressionTypeError: "the broker does not know this compression",
}


def translate(error: BaseException, *, path: str = "") -> Exception:
    """Return what an error of the client means: a :class:`KafkaFault` or a :class:`ConfigurationError` about ``path``.

    An error that nobody foresaw makes a producer unusable, which is always safe: a new one is made and nothing that
    was not acknowledged is forgotten.
    """
    for kind, meaning in _RIGHTS.items():
        if isinstance(error, kind):
            names = ", ".join(sorted(str(part) for part in _flat(error.args)))
            return ConfigurationError(f"{meaning} {names}".strip(), path=path)
    if isinstance(error, KafkaFault | ConfigurationError):
        return error
    if isinstance(error, _TOO_LARGE):
        return RecordTooLarge(str(error))
    if isinstance(error, _NOT_A_MEMBER):
        return NotAMember(str(error) or type(error).__name__)
    if isinstance(error, kafka_errors.RetriableError | OSError):
        return BrokerAway(str(error) or type(error).__name__)
    if isinstance(error, kafka_errors.KafkaError) and len(error.args) > 1 and isinstance(error.args[1], Exception):
        return translate(error.args[1], path=path)  # "a previous request has failed", with that failure beside it
    return ProducerUnusable(f"{type(error).__name__}: {error}")


def _flat(parts: Sequence[Any]) -> list[Any]:
    return [name for part in parts for name in (part if isinstance(part, set | list | tuple) else [part])]


def check_client_settings(given: Mapping[str, Any], client: type, *, path: str) -> None:
    """Refuse settings that the client does not know, before anything connects."""
    for name in given:
        if name not in client.DEFAULT_CONFIG:  # type: ignore[attr-defined]
            raise ConfigurationError("kafka-python does not know this setting", path=f"{path}.{name}")


def open_consumer(
    settings: KafkaSourceSettings, *, source: str, buffer_bytes: int, max_records: int, path: str
) -> KafkaConsumer:
    """Return a consumer that has reached a broker and is not yet in its group; see :func:`consumer_settings`."""
    check_client_settings(settings.consumer, KafkaConsumer, path=f"{path}.consumer")
    given = consumer_settings(settings, source=source, buffer_bytes=buffer_bytes, max_records=max_records, path=path)
    consumer = _open(KafkaConsumer, given | {"partition_assignment_strategy": [Assignor]}, path=path)
    mend_membership(consumer)
    return consumer


def open_reader(settings: KafkaConnectionSettings, *, path: str = "", **more: Any) -> KafkaConsumer:
    """Return a consumer without a group, for reading a topic once from its start to its end."""
    return _open(KafkaConsumer, more | reader_settings(settings, path=path), path=path)


def open_producer(
    settings: KafkaSinkSettings,
    *,
    client_id: str,
    path: str,
    transactional_id: str | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> KafkaProducer:
    """Return an idempotent producer that has reached a broker; with ``transactional_id``, one for transactions.

    ``batch_bytes`` is below what any output topic takes: when a broker refuses a batch, the client splits it, and that
    leaves records without an answer.
    """
    check_client_settings(settings.producer, KafkaProducer, path=f"{path}.producer")
    given = producer_settings(
        settings, client_id=client_id, path=path, transactional_id=transactional_id, batch_bytes=batch_bytes
    )
    return _open(KafkaProducer, given, path=path)


def open_admin(settings: KafkaConnectionSettings, *, path: str = "") -> KafkaAdminClient:
    """Return a client that asks about topics, groups and rights."""
    return _open(KafkaAdminClient, connection_settings(settings, path=path), path=path)


def _open(client: type, settings: dict[str, Any], *, path: str) -> Any:
    """Make a client; what stands in its way is a :class:`BrokerAway` or a :class:`ConfigurationError`.

    A client that fails while it is made leaves its connections and its thread behind: they are closed here.
    """
    made: list[Any] = []

    def remembered(**config: Any) -> Any:
        made.append(ClosingClient(**config))
        return made[-1]

    if "metrics_enabled" in client.DEFAULT_CONFIG:  # type: ignore[attr-defined]
        settings = {"metrics_enabled": False} | settings  # captiond has its own; the client's cost time at each record
    try:
        return client(**settings, kafka_client=remembered)
    except (kafka_errors.KafkaError, OSError, ValueError, TypeError, RuntimeError) as error:
        for net in made:
            net.close()
        if isinstance(error, kafka_errors.RetriableError | OSError):
            raise BrokerAway(str(error)) from error
        if isinstance(error, kafka_errors.KafkaError) and not isinstance(error, kafka_errors.KafkaConfigurationError):
            raise translate(error, path=path) from error
        raise ConfigurationError(f"the Kafka client refuses its settings: {error}", path=path) from error


def abandon_producer(producer: KafkaProducer) -> None:
    """Let go of a producer at once, without a word to the broker and without waiting.

    ``close`` would flush first, which a producer that is abandoned because nothing answers can't.
    """
    producer._unregister_cleanup()
    producer._closed = True
    producer._sender.force_close()


def is_reachable(consumer: KafkaConsumer) -> bool:
    """Tell whether the group's coordinator is known; the heartbeats forget it when it does not answer."""
    return not consumer._coordinator.coordinator_unknown()


def is_joined(consumer: KafkaConsumer) -> bool:
    """Tell whether the group has decided which partitions are the consumer's."""
    return bool(consumer.group_metadata().state == MemberState.STABLE)


def lag_of(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """Return how many offsets lie between the position and the end that the last fetch saw; None before there is one.

    It asks nobody. A partition that goes while it is asked about has none either.
    """
    try:
        end, position = consumer.highwater(partition), consumer.position(partition, timeout_ms=0)
    except kafka_errors.KafkaError:
        return None
    return None if end is None or position is None else max(end - position, 0)


def poll_once(consumer: KafkaConsumer, wait_s: float, max_records: int) -> dict[TopicPartition, list[Any]]:
    """Poll for one round, at most ``wait_s``.

    ``KafkaConsumer.poll`` goes round until records come. When the first round revokes partitions, its second tells the
    group that they are free, before the caller has committed for them. One round ends before that.

    Records that came for a partition while it was paused are kept aside. kafka-python 3.0.12 takes them up again only
    while it holds nothing else, and counts what is used up as something: the partition would then stand still for ever.
    """
    resume(consumer)
    fetcher = consumer._fetcher
    fetcher._next_partition_records = fetcher._next_partition_records or None
    with positions_kept(consumer):
        polled: dict[TopicPartition, list[Any]] = consumer._poll_once(Timer(int(wait_s * 1000)), max_records)
    return polled
