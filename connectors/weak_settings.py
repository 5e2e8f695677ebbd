"""Settings of sources and sinks that work and protect less than they could, each as a sentence for the operator."""

import ipaddress
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings
from connectors.settings import ConnectorSettings


def weak_connectors(settings: ConnectorSettings) -> list[str]:
    """Return a sentence for each weak setting of the sources and the sink."""
    lines: list[str] = []
    for name, source in settings.sources.items():
        if isinstance(source, KafkaSourceSettings):
            lines += _weak_connection(source, source.consumer, f"sources.{name}", "consumer")
            lines += _weak_prefixes(source, f"sources.{name}.references.url_prefixes")
    if isinstance(settings.sink, KafkaSinkSettings):
        lines += _weak_connection(settings.sink, settings.sink.producer, "sink", "producer")
    return lines


def open_secret(file: Path | None, path: str) -> list[str]:
    """Return what is said of a secret's file that others than its owner and group may read or write.

    A file that can't be looked at is said by whoever reads it.
    """
    if file is None:
        return []
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return []
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return []
    can = "read and write" if mode & stat.S_IROTH and mode & stat.S_IWOTH else "read"
    can = can if mode & stat.S_IROTH else "write"
    return [f"{path}: every user of this machine may {can} {file} (mode {mode:04o}): chmod 0600."]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, whatever network it is in."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _weak_connection(
    connection: KafkaConnectionSettings, client: Mapping[str, Any], path: str, section: str
) -> Iterator[str]:
    yield from open_secret(connection.password_file, f"{path}.password_file")
    yield from open_secret(connection.ssl_keyfile, f"{path}.ssl_keyfile")
    if connection.security_protocol == "SASL_PLAINTEXT":
        sent = "the password and every clip and caption go" if connection.sasl_mechanism == "PLAIN" else "all data goes"
        yield f"{path}.security_protocol: with SASL_PLAINTEXT {sent} over the network unencrypted: SASL_SSL encrypts."
    if connection.security_protocol.endswith("SSL") and client.get("ssl_check_hostname") is False:
        yield (
            f"{path}.{section}.ssl_check_hostname: false lets any machine with a certificate of the same authority "
            "pass for the broker."
        )


def _weak_prefixes(source: KafkaSourceSettings, path: str) -> Iterator[str]:
    for prefix in source.references.url_prefixes:
        parts = urlsplit(prefix)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield f"{path}: clips under {prefix} come unencrypted, and anybody on the way may replace them."
