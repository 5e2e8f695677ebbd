"""A real broker for the tests: one a session, with topics and groups of its own for each test."""

import gc
import itertools
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import Broker, NoBroker
from testing.kafka.secure_broker import SecureBroker, start_secure_broker
from tests.kafka.stand_in import Watch, close_producers
from tests.kafka.topics import Topics

HOW_TO_RUN = (
    "no Kafka broker: {why}. Set KAFKA_BOOTSTRAP to one that runs, or KAFKA_HOME to an unpacked Apache Kafka, or "
    "install Java and Maven, then run: pytest -m kafka"
)
_NUMBERS = itertools.count()


def skip_or_fail(why: object) -> None:
    """Skip on a laptop; in CI a missing broker is a failure, so that nothing stops being tested unseen."""
    message = HOW_TO_RUN.format(why=why)
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the session's broker."""
    if running := os.environ.get("KAFKA_BOOTSTRAP"):
        yield running
        return
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"))
    except NoBroker as missing:
        skip_or_fail(missing)
        return
    try:
        yield broker.start().bootstrap
    finally:
        close_producers()
        broker.kill()


@pytest.fixture(scope="session")
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A client that makes topics on the session's broker."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=30_000)
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    """A name that no other test, and no other session on the same broker, uses."""
    return f"t{next(_NUMBERS)}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_topic(admin: KafkaAdminClient, name: str) -> Callable[..., str]:
    """Return a function that makes a topic of this test's own."""

    def make(suffix: str, partitions: int = 1, **configs: str) -> str:
        topic = f"{name}.{suffix}"
        admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        admin.wait_for_topics([topic])
        return topic

    return make


@pytest.fixture
def make_topics(bootstrap: str, name: str, tmp_path: Path) -> Callable[..., Topics]:
    """Return a function that makes topics for clips, captions and rejections; see :meth:`Topics.make`."""
    return Topics(bootstrap, tmp_path, f"{name}.clips", f"{name}.captions").make


@pytest.fixture(params=[False, True], ids=["at_least_once", "transactional"])
def transactional(request: pytest.FixtureRequest) -> bool:
    """Whether records and positions share a transaction."""
    return bool(request.param)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may kill; not started yet."""
    try:
        broker = Broker(tmp_path / "own-kafka")
    except NoBroker as missing:
        skip_or_fail(missing)
        return
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker with TLS, SCRAM, PLAIN and access control lists."""
    try:
        secured = start_secure_broker(tmp_path_factory.mktemp("secure-kafka"))
    except NoBroker as missing:
        skip_or_fail(missing)
        return
    yield secured
    secured.broker.kill()


@pytest.fixture(scope="module", autouse=True)
def garbage_of_this_module_alone() -> None:
    """Leave out of all later collections what was loaded before: where vLLM was, looking through it takes a second."""
    _collect_quietly()
    gc.freeze()


@pytest.fixture(autouse=True)
def end_watches() -> Iterator[None]:
    """End the readers that the test left, and collect what kafka-python left within the test that left it, and then."""
    gc.disable()
    yield
    gc.enable()
    Watch.close_all()
    _collect_quietly()


def _collect_quietly() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
