"""Reading a partition: canaries over what kafka-python does with records that it holds."""

from collections.abc import Callable

import pytest

from connectors.kafka.client.consumer import Consumer, TopicPartition, open_reader
from connectors.kafka.settings import KafkaConnectionSettings
from tests.kafka.stand_in import produce

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


def read_until_quiet(reader: Consumer) -> int:
    """Return how many records come until none came for some rounds."""
    count = quiet = 0
    while quiet < 5:
        polled = reader.poll_once(0.2, 1)
        count += sum(map(len, polled.values()))
        quiet = 0 if polled else quiet + 1
    return count


def test_a_partition_that_was_paused_half_read_goes_on(bootstrap: str, make_topic: Callable[..., str]) -> None:
    topic = make_topic("clips", partitions=2)
    produce(bootstrap, topic, [b"clip"] * 40)
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
    reader.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    first = {}
    while not first:
        first = reader.poll_once(0.2, 1)
    (half_read,) = first

    reader.pause(half_read)
    others = read_until_quiet(reader)
    reader.resume(half_read)
    rest = read_until_quiet(reader)
    reader.close()

    assert 0 < others < 39
    assert others + rest == 39
