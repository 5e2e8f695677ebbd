"""The settings of kafka-python that captiond needs.

The client's defaults are traps here (it commits by itself, starts at the end, reads aborted records, creates topics),
so every setting that a promise depends on is set below, and wins over what a user gives.
"""

from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings

SESSION_MS = 10_000  # a daemon that died is replaced after this; three heartbeats may get lost in it
HEARTBEAT_MS = 3_000
MAX_POLL_INTERVAL_MS = 60_000  # the thread polls at least every 20 s, even when each of its steps runs into its limit
REQUEST_MS = 8_000  # below the delivery time-out, so that a lost answer is asked for again before that is over
DELIVERY_MS = 10_000  # a record not acknowledged by then has failed; the transaction around it still lives
TRANSACTION_MS = 15_000  # after a crash, readers of the output and the next owner of a partition wait at most this long
BOOTSTRAP_MS = 5_000  # a broker that is there answers within this; the caller waits longer in steps of it
RECONNECT_MS = 2_000  # the client's own 30 s would be most of the time that a recovery may take
METADATA_AGE_MS = 30_000  # new partitions, and new topics that a pattern fits, are seen after this
MAX_REQUEST_BYTES = 16 * 2**20  # dead letters carry their clip; where a topic takes less, the broker says so
BATCH_BYTES = 128 * 2**10  # captions of one commit interval share a batch and so a compression
MIN_FETCH_BYTES = 2**20  # a fetch below the brokers' usual limit of a record would fetch records one by one
MAX_FETCH_BYTES = 50 * 2**20  # the client's own default

if not HEARTBEAT_MS * 3 < SESSION_MS < MAX_POLL_INTERVAL_MS:
    raise AssertionError("a session has room for three heartbeats and ends before a poll may be late")
if not REQUEST_MS < DELIVERY_MS < TRANSACTION_MS:
    raise AssertionError("a request fails before its record does, and a record before its transaction")

DIRECT = "captiond"  # the scheme of captiond's own way to connect


def connection_settings(settings: KafkaConnectionSettings, *, path: str = "") -> dict[str, Any]:
    """Return the settings that every client needs. The password is read from its file and never logged."""
    known: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": REQUEST_MS,
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
        "proxy_url": f"{DIRECT}://direct",
    }
    for key in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        file: Path | None = getattr(settings, key)
        if file is not None:
            known[key] = str(_readable(file, path=f"{path}.{key}"))
    if settings.sasl_mechanism is not None and settings.password_file is not None:
        key = f"{path}.password_file"
        password = _readable(settings.password_file, path=key).read_text().rstrip("\r\n")
        if not password:
            raise ConfigurationError("the file is empty", path=key)
        known |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password,
        }
    return known


def _readable(file: Path, *, path: str) -> Path:
    try:
        with file.open("rb"):
            return file
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}", path=path) from error


def consumer_settings(
    settings: KafkaSourceSettings, *, source: str, buffer_bytes: int, max_records: int, path: str
) -> dict[str, Any]:
    """Return the settings of a source's consumer.

    ``buffer_bytes`` bounds one answer to a fetch; the client holds one that came and asks for one more. A larger record
    comes alone, and so does one that is larger than ``MIN_FETCH_BYTES``: what the client keeps of a paused partition is
    small, or one record.
    """
    known = connection_settings(settings, path=path) | {
        "client_id": f"captiond-{source}",
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
        "metadata_max_age_ms": METADATA_AGE_MS,
    }
    ours = {
        "group_id": settings.group(source),
        "auto_offset_reset": settings.start_from,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "fetch_max_bytes": min(max(buffer_bytes, MIN_FETCH_BYTES), MAX_FETCH_BYTES),
        "max_partition_fetch_bytes": MIN_FETCH_BYTES,
        "max_poll_records": max_records,
    }
    return known | settings.consumer | ours


def reader_settings(settings: KafkaConnectionSettings, *, path: str) -> dict[str, Any]:
    """Return the settings of a consumer that reads a topic once from its start to its end."""
    ours = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
    }
    return connection_settings(settings, path=path) | ours


def producer_settings(
    settings: KafkaSinkSettings, *, client_id: str, path: str, transactional_id: str | None, batch_bytes: int
) -> dict[str, Any]:
    """Return the settings of an idempotent producer; with ``transactional_id``, of one for transactions."""
    known = connection_settings(settings, path=path) | {
        "client_id": client_id,
        "max_request_size": MAX_REQUEST_BYTES,
        "max_block_ms": DELIVERY_MS,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "batch_size": batch_bytes,
    }
    ours: dict[str, Any] = {
        "acks": "all",
        "enable_idempotence": True,
        "delivery_timeout_ms": DELIVERY_MS,
        "compression_type": settings.compression,
        "allow_auto_create_topics": False,
    }
    if transactional_id is not None:
        ours |= {"transactional_id": transactional_id, "transaction_timeout_ms": TRANSACTION_MS}
    return known | settings.producer | ours
