"""A Kafka client that does not return: the source says so and where, for a restart is all that helps."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from connectors.errors import Fatal
from connectors.kafka import source as kafka_source
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.settings import KafkaSourceSettings
from connectors.kafka.source import KafkaSource, SourceBounds
from tests.kafka.stand_in import no_references


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> KafkaSource:
    monkeypatch.setattr(kafka_source, "LOOK_S", 0.02)
    monkeypatch.setattr(kafka_source, "STUCK_S", 0.2)
    settings = KafkaSourceSettings(bootstrap_servers="127.0.0.1:9", topics="clips", group_id="g")
    bounds = SourceBounds(max_clips=2, in_flight_bytes=2**20, max_clip_bytes=2**20, commit_interval_s=0.1)
    return KafkaSource("t", settings, bounds, no_references)


async def test_a_client_that_does_not_return_ends_the_source(
    source: KafkaSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    returns = threading.Event()

    def lost_in_the_client() -> Any:
        returns.wait(60)
        raise BrokerAway("at last")

    monkeypatch.setattr(source, "_connect", lost_in_the_client)
    with caplog.at_level(logging.ERROR), pytest.raises(Fatal, match="source t: the Kafka client did not return"):
        await anext(source.deliveries())

    assert "lost_in_the_client" in caplog.text
    returns.set()
    await source.close()


async def test_a_broker_that_is_away_for_long_is_waited_for(
    source: KafkaSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_source, "STUCK_S", 1.0)
    tries: list[int] = []
    enough = threading.Event()

    def away() -> Any:
        tries.append(1)
        if len(tries) == 20:  # two seconds of tries, twice as long as a client may be stuck
            enough.set()
        raise BrokerAway("nothing answers")

    monkeypatch.setattr(source, "_connect", away)
    monkeypatch.setattr(kafka_source, "explain_outage", lambda *_, **__: "nothing answers")
    monkeypatch.setattr("connectors.kafka.client.outage.BACK_OFF_S", (0.1,))
    waiting = aiter(source.deliveries())
    task = asyncio.ensure_future(anext(waiting, None))
    while not enough.is_set():
        await asyncio.sleep(0.02)

    assert not task.done()
    await source.close()
    assert await task is None
