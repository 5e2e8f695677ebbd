"""A client that has reached a broker: consumer, producer and admin client are all opened here."""

from collections.abc import Mapping
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.sasl import get_sasl_mechanism

from connectors.errors import ConfigurationError
from connectors.kafka.client.errors import BrokerAway, translate
from connectors.kafka.client.workarounds import ClosingClient

__all__ = ["check_client_settings", "get_sasl_mechanism", "open_client"]


def check_client_settings(given: Mapping[str, Any], client: type, *, path: str) -> None:
    """Refuse settings that the client does not know, before anything connects."""
    for name in given:
        if name not in client.DEFAULT_CONFIG:  # type: ignore[attr-defined]
            raise ConfigurationError("kafka-python does not know this setting", path=f"{path}.{name}")


def open_client(client: type, settings: dict[str, Any], *, path: str) -> Any:
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
