"""The errors of kafka-python and what each means here; they are translated once, by :func:`translate`.

    KafkaFault
    ├── BrokerAway        nothing answers, or not yet: wait and try again; what was sent may or may not have arrived
    ├── NotAMember        the group has moved on: poll, and commit for what is still owned
    ├── ProducerUnusable  fenced, or in an unknown state: make a new one
    └── RecordTooLarge    the topic refuses a record of this size

Everything that only a person can put right (rights, names, passwords) is a :class:`ConfigurationError`.
"""

from collections.abc import Sequence

from kafka import errors as kafka_errors

from connectors.errors import ConfigurationError


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


def _flat(parts: Sequence[object]) -> list[object]:
    return [name for part in parts for name in (part if isinstance(part, set | list | tuple) else [part])]
