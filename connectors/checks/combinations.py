"""Sources and sinks that do not go together, and clusters and folders that are not as a configuration says."""

from connectors.checks.overlaps import refuse_overlaps
from connectors.errors import ConfigurationError
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.settings import ConnectorSettings
from connectors.stream.settings import StreamSourceSettings


def check_connectors(settings: ConnectorSettings) -> list[str]:
    """Look at the folders and ask the clusters that the configuration names, and return what is surprising.

    Raises:
        ConfigurationError: something that waiting does not repair, such as a missing topic or a wrong password.
    """
    refuse_overlaps(settings)
    if settings.delivery == "transactional":
        refuse_mixed_transactions(settings)
    lines: list[str] = []
    for name, source in settings.sources.items():
        if isinstance(source, KafkaSourceSettings):
            from connectors.kafka.checks import check_source

            lines += check_source(name, source)
    if isinstance(settings.sink, KafkaSinkSettings):
        from connectors.kafka.checks import check_sink

        lines += check_sink(settings.sink, settings.sources)
    return lines


def refuse_endless(settings: ConnectorSettings) -> None:
    """Raise :class:`ConfigurationError` where a source has no end that a run could come to."""
    for name, source in settings.sources.items():
        if isinstance(source, StreamSourceSettings):
            message = "a live stream does not end, so there is no run --once over it: leave --once or the source out"
            raise ConfigurationError(message, path=f"sources.{name}.kind")


def refuse_mixed_transactions(settings: ConnectorSettings) -> None:
    """Raise :class:`ConfigurationError` unless every source and the sink are Kafka on one cluster."""
    sink = settings.sink
    if not isinstance(sink, KafkaSinkSettings):
        raise ConfigurationError("transactional needs a Kafka sink: write at_least_once", path="delivery")
    for name, source in settings.sources.items():
        if not isinstance(source, KafkaSourceSettings):
            raise ConfigurationError(f"transactional needs Kafka sources, and {name} is none", path="delivery")
        if set(source.bootstrap_servers) != set(sink.bootstrap_servers):
            message = f"a transaction is within one cluster, and {name} and the sink name different servers"
            raise ConfigurationError(message, path="delivery")
