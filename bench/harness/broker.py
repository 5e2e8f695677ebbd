"""The broker that a measurement runs over, its topics, and what becomes of a measurement without one."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # how kafka-python reads its schemas
    from connectors.kafka.client.admin import KafkaAdminClient, NewTopic

from testing.kafka.broker import Broker, NoBroker

JOIN_MS = 60_000
"""How long a bare kafka-python loop polls until its first records: a rejoin that the end of a poll cuts in two is one
that the client, as it is, never finishes. It then polls for ever and gets nothing."""


@contextmanager
def broker() -> Iterator[str]:
    """The address of a broker: one that runs, or one of this run's own."""
    if running := os.environ.get("KAFKA_BOOTSTRAP"):
        yield running
        return
    with tempfile.TemporaryDirectory(prefix="captiond-bench-") as folder:
        own = Broker(Path(folder))
        try:
            yield own.start().bootstrap
        finally:
            own.kill()


def make_topics(bootstrap: str, prefix: str, partitions: int) -> dict[str, str]:
    """Make the topics of one run and return their names."""
    names = {part: f"{prefix}.{part}" for part in ("clips", "captions", "rejected")}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(name, partitions, 1) for name in names.values()])
    admin.wait_for_topics(list(names.values()))
    admin.close()
    return names


def over_a_broker(measure: Callable[[str], bool]) -> int:
    """Measure over a broker's address; 0 where ``measure`` says that it held, 1 where it did not or there is none."""
    try:
        with broker() as bootstrap:
            return 0 if measure(bootstrap) else 1
    except NoBroker as missing:
        print(f"Not measured: {missing}.")
        return 1
