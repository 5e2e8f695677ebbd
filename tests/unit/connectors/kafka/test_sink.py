"""The sink answers what is acknowledged, sends again what is not, and names what no topic takes."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from connectors.errors import ConfigurationError, Poison
from connectors.kafka import sink as sink_module
from connectors.kafka.client import outage
from connectors.kafka.client.errors import BrokerAway, RecordTooLarge
from connectors.kafka.record import ProducerRecord
from connectors.kafka.settings import KafkaSinkSettings
from connectors.kafka.sink import KafkaSink
from tests.unit.connectors.kafka.scripted_client import ScriptedConsumer
from tests.unit.connectors.kafka.scripted_producer import ScriptedProducer, Sending

SETTINGS = KafkaSinkSettings(bootstrap_servers="127.0.0.1:9")


def record(value: bytes, fallback: ProducerRecord | None = None) -> ProducerRecord:
    return ProducerRecord("out", b"key", value, (), fallback)


class Cluster:
    """Scripted producers, of which each is the successor of the one before."""

    def __init__(self) -> None:
        self.producers: list[ScriptedProducer] = []
        self.coming: deque[ScriptedProducer | Exception] = deque()

    def producer(self, **answers: Exception | None) -> ScriptedProducer:
        """Let the next producer answer so for records of these values; None is no answer."""
        coming = ScriptedProducer(ScriptedConsumer())
        for value, fault in answers.items():
            coming.answers[value.encode()] = Sending(is_done=fault is not None, exception=fault)
        self.coming.append(coming)
        return coming

    def connect(self, *_: Any) -> Any:
        coming = self.coming.popleft() if self.coming else ScriptedProducer(ScriptedConsumer())
        if isinstance(coming, Exception):
            raise coming
        self.producers.append(coming)
        return coming

    @property
    def sent(self) -> list[list[bytes | None]]:
        """What each producer wrote."""
        return [[record.value for record in producer.written] for producer in self.producers]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(sink_module, "connect_producer", made.connect)
    monkeypatch.setattr(sink_module, "explain_outage", lambda *_, **__: "nothing listens")
    monkeypatch.setattr(outage, "BACK_OFF_S", (0.001,))
    return made


@pytest.fixture
async def sink(cluster: Cluster) -> AsyncIterator[KafkaSink]:
    made = KafkaSink(SETTINGS, ["t"])
    yield made
    await made.close()


async def write(sink: KafkaSink, *values: bytes) -> list[BaseException | None]:
    """Write a record each, all at once."""
    writes = (sink.write_records([record(value)]) for value in values)
    return await asyncio.gather(*writes, return_exceptions=True)


async def test_records_are_written_in_order_by_one_producer(cluster: Cluster, sink: KafkaSink) -> None:
    assert await write(sink, b"a", b"b") == [None, None]
    await sink.write_records([record(b"c"), record(b"d")])

    assert cluster.sent == [[b"a", b"b", b"c", b"d"]]


async def test_what_is_not_acknowledged_is_sent_again_by_a_new_producer(
    cluster: Cluster, sink: KafkaSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster.producer(b=KafkaTimeoutError("given up"), c=None)
    cluster.producer(b=KafkaTimeoutError("given up"))
    cluster.coming.append(BrokerAway("refused"))

    assert await write(sink, b"a", b"b", b"c") == [None, None, None]
    assert [producer.is_abandoned for producer in cluster.producers] == [True, True, False]
    await sink.close()

    assert cluster.sent[2][0] == b"b"
    assert cluster.sent[0].count(b"a") == 1
    assert all(b"a" not in sent for sent in cluster.sent[1:])
    assert caplog.messages == ["The sink waits for the broker: nothing listens.", "The sink: the broker is back."]
    assert sink.waiting_for == ""


async def test_a_broker_that_is_away_is_told(cluster: Cluster, sink: KafkaSink) -> None:
    cluster.coming.extend([BrokerAway("refused")] * 10**5)
    writing = asyncio.ensure_future(sink.write_records([record(b"a")]))

    async with asyncio.timeout(60):
        while sink.waiting_for != "the broker: nothing listens":
            await asyncio.sleep(0.001)
        cluster.coming.clear()
        await writing
        await sink.close()

    assert sink.waiting_for == ""


@pytest.mark.parametrize("by", ["the client", "the broker"])
async def test_a_caption_that_its_topic_refuses_is_poison_and_its_neighbours_are_written(
    cluster: Cluster, sink: KafkaSink, by: str
) -> None:
    if by == "the broker":
        cluster.producer(b=MessageSizeTooLargeError("no"))
    else:
        cluster.producer().faults.add("send", None, RecordTooLarge("600 bytes, and topic out takes 500"))

    first, poison, last = await asyncio.gather(
        *(sink.write_records([record(value)]) for value in (b"a", b"b", b"c")), return_exceptions=True
    )

    assert (first, last) == (None, None)
    assert isinstance(poison, Poison)
    assert (poison.reason, poison.detail, poison.origin) == (
        "caption_too_large",
        "the output topic refuses a message of this size",
        "sink",
    )
    assert cluster.sent == [[b"a", b"c"]]


async def test_a_dead_letter_that_is_too_large_goes_without_its_clip(cluster: Cluster, sink: KafkaSink) -> None:
    cluster.producer(clip=MessageSizeTooLargeError("no"))

    await sink.write_records([record(b"clip", record(b"bare"))])

    assert cluster.sent == [[b"bare"]]


async def test_too_large_and_not_acknowledged_are_told_apart_within_one_batch(
    cluster: Cluster, sink: KafkaSink
) -> None:
    cluster.producer(long=MessageSizeTooLargeError("no"), late=KafkaTimeoutError("given up"))

    done, poison, late = await write(sink, b"done", b"long", b"late")

    assert (done, late) == (None, None)
    assert isinstance(poison, Poison)
    assert cluster.sent[-1][-1] == b"late"


@pytest.mark.parametrize("when", ["connecting", "sending", "acknowledging"])
async def test_what_only_a_person_can_put_right_reaches_the_writer(
    cluster: Cluster, sink: KafkaSink, when: str
) -> None:
    refused = TopicAuthorizationFailedError({"out"})
    if when == "connecting":
        cluster.coming.append(ConfigurationError("there is no topic 'out'", path="sink.topic"))
    elif when == "sending":
        cluster.producer().faults.add("send", refused)
    else:
        cluster.producer(a=refused)

    with pytest.raises(ConfigurationError, match="out") as raised:
        await sink.write_records([record(b"a")])

    assert raised.value.path == ("sink.topic" if when == "connecting" else "sink")


async def test_closing_while_the_broker_is_away_ends(cluster: Cluster) -> None:
    cluster.coming.extend([BrokerAway("refused")] * 10**5)
    sink = KafkaSink(SETTINGS, ["t"])
    writing = asyncio.ensure_future(sink.write_records([record(b"a")]))
    await asyncio.sleep(0.01)

    async with asyncio.timeout(60):
        await sink.close()
    with pytest.raises(RuntimeError, match="closed"):
        await sink.write_records([record(b"b")])

    assert not writing.done()  # its windows were not settled either
    writing.cancel()
