"""The broker of the Kafka rows: one real Apache Kafka a run, with a second listener whose way leads through a proxy.

A client that comes in by the second listener is told to come back by the same way, so a proxy there sees everything.
"""

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import SETTINGS, Broker, NoBroker, find_jars
from testing.ports import free_ports

PARTITIONS = 4
OFFSETS_PARTITIONS = 16  # loads that run side by side hardly ever share a partition of the broker's log of commits

_NUMBERS = itertools.count()


class Cluster:
    """A broker that serves until the run ends; rows may stop, kill and start it, and leave it serving."""

    def __init__(self, data: Path) -> None:
        self.broker = Broker(data, settings={"offsets.topic.num.partitions": str(OFFSETS_PARTITIONS)})
        self.proxy_port, self.hidden_port = free_ports(2)
        direct = f"PLAINTEXT://{self.broker.bootstrap}"
        controller = f"CONTROLLER://127.0.0.1:{self.broker.controller_port}"
        self.broker._settings |= {
            "listeners": f"{direct},{controller},PROXIED://127.0.0.1:{self.hidden_port}",
            "advertised.listeners": f"{direct},PROXIED://127.0.0.1:{self.proxy_port}",
            "listener.security.protocol.map": f"{SETTINGS['listener.security.protocol.map']},PROXIED:PLAINTEXT",
        }

    @property
    def bootstrap(self) -> str:
        """The address that leads straight to the broker."""
        return self.broker.bootstrap

    @property
    def proxied(self) -> str:
        """The address of the proxy; nothing listens there until a row opens one."""
        return f"127.0.0.1:{self.proxy_port}"

    def make_topics(self, *, output_settings: dict[str, str] | None = None) -> str:
        """Make an input topic, ``NAME.captions`` and ``NAME.rejected``, and return the name of the first."""
        name = f"clips{next(_NUMBERS)}"
        stamped = {"message.timestamp.type": "LogAppendTime"}  # when the broker took a record is evidence
        topics = [
            NewTopic(name, PARTITIONS, 1, topic_configs={"max.message.bytes": "20000000"}),
            NewTopic(f"{name}.captions", PARTITIONS, 1, topic_configs=stamped | (output_settings or {})),
            NewTopic(f"{name}.rejected", 1, 1, topic_configs=stamped),
        ]
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=30_000)
        try:
            admin.create_topics(topics)
            admin.wait_for_topics([topic.name for topic in topics])
        finally:
            admin.close()
        return name


def missing() -> str:
    """Return why no broker can be started here; empty where one can."""
    try:
        find_jars()
    except NoBroker as why:
        return str(why)
    return ""


@cache
def cluster() -> Cluster:
    """Return the run's cluster, started by the first row that asks and ended with the program."""
    folder = Path(tempfile.mkdtemp(prefix="captiond-chaos-kafka-"))
    made = Cluster(folder / "data")
    atexit.register(lambda: (made.broker.kill(), shutil.rmtree(folder, ignore_errors=True)))
    made.broker.start()
    return made
