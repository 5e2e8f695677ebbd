"""Compressed batches that become huge: each of their records is rejected, and the partition goes on."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from connectors.kafka.client.consumer import Consumer, KafkaConsumer, TopicPartition, open_reader
from connectors.kafka.client.inflating import bound_inflating
from connectors.kafka.client.producer import KafkaProducer
from connectors.kafka.record import ERRORS_PREFIX
from connectors.kafka.settings import KafkaConnectionSettings
from tests.kafka.stand_in import make_route, place_of, produce, read_all, run_pipeline, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
MakeTopic = Callable[..., str]
CODECS = ["gzip", "snappy", "lz4", "zstd"]


def produce_batch(bootstrap: str, topic: str, values: list[bytes], codec: str, partition: int = 0) -> None:
    """Write records that share one batch."""
    limits = {"max_request_size": 2**30, "batch_size": 2**30, "linger_ms": 60_000}
    producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, **limits)
    futures = [producer.send(topic, value, partition=partition) for value in values]
    producer.flush(timeout=60)
    assert [future.value.offset - futures[0].value.offset for future in futures] == list(range(len(values)))
    producer.close()


@contextmanager
def peak_bytes() -> Iterator[list[int]]:
    """Give the most that Python held at once."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bounded", [False, True], ids=["the client", "captiond"])
def test_a_batch_that_becomes_huge_is_not_inflated(bootstrap: str, make_topic: MakeTopic, *, bounded: bool) -> None:
    topic = make_topic("clips")
    produce_batch(bootstrap, topic, [bytes(200 * 2**20)], "gzip")
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    if bounded:
        bound_inflating(consumer, 2**20)
    consumer.assign([TopicPartition(topic, 0)])

    with peak_bytes() as peak:
        records = []
        while not records:
            records = [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
    consumer.close()

    assert (records[0].offset, len(records[0].value)) == (0, 0 if bounded else 200 * 2**20)
    assert (peak[0] < 40 * 2**20) == bounded


async def test_its_records_are_rejected_and_those_around_it_are_captioned(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, *, transactional: bool
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    produce(bootstrap, topic, [b"before"])
    for codec in CODECS:
        produce_batch(bootstrap, topic, [bytes(5 * 2**20)] * 2, codec)
    produce(bootstrap, topic, [b"after"])

    for _ in range(3):  # a start of the program each: the first does it all, the others find it done
        route = make_route(
            bootstrap, topic, output, tmp_path, transactional=transactional, once=True, in_flight_bytes=2**26
        )
        await run_pipeline(route)
        await route.close()

    ids = [f"{topic}/0/{offset}" for offset in range(10)]
    assert windows_of(read_all(bootstrap, output)) == {ids[0]: [0, 1, 2], ids[9]: [0, 1, 2]}
    letters = read_all(bootstrap, rejected)
    errors = [
        {name.removeprefix(ERRORS_PREFIX): value.decode() for name, value in letter.headers} for letter in letters
    ]
    assert {letter.value for letter in letters} == {None}
    assert sorted(place_of(error["clip_id"]) for error in errors) == ids[1:9]
    assert {(error["topic"], error["partition"], error["exception.class.name"]) for error in errors} == {
        (topic, "0", "too_large")
    }
    assert sorted(error["offset"] for error in errors) == [str(offset) for offset in range(1, 9)]
    assert all("when it is inflated" in error["exception.message"] for error in errors)


@pytest.mark.parametrize("codec", CODECS)
def test_rounds_and_paused_partitions_stay_within_the_bound(bootstrap: str, make_topic: MakeTopic, codec: str) -> None:
    """Many batches below the bound: together they are far above it."""
    partitions, each = 4, 6
    topic = make_topic("clips", partitions=partitions)
    for partition in range(partitions):
        for number in range(each):
            produce_batch(bootstrap, topic, [bytes([number]) * 7 * 2**20], codec, partition)
    consumer = Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    bound_inflating(consumer, 2**20)
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(places)
    offsets: dict[TopicPartition, list[int]] = {place: [] for place in places}

    with peak_bytes() as peak:
        while sum(map(len, offsets.values())) < partitions * each:
            polled = consumer.poll_once(0.2, 64)
            for place, records in polled.items():
                assert [record.value[:1] for record in records] == [bytes([record.offset]) for record in records]
                offsets[place] += [record.offset for record in records]
            consumer.resume(*consumer.paused())
            consumer.pause(*polled)
    consumer.close()

    assert all(found == list(range(each)) for found in offsets.values())
    assert peak[0] < 80 * 2**20  # of 168 MiB


def test_a_reader_of_dead_letters_names_the_place(bootstrap: str, make_topic: MakeTopic) -> None:
    topic = make_topic("letters")
    produce_batch(bootstrap, topic, [bytes(60 * 2**20)], "zstd")
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
    reader.assign([TopicPartition(topic, 0)])

    with pytest.raises(ConfigurationError, match=rf"{topic}/0 can't be read at offset 0: a compressed batch"):
        reader.poll(timeout_ms=20_000)
    reader.close()
