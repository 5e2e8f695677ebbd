"""Kafka in, Kafka out, on a real broker: every clip ends once, and a restart goes on where the position says."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing

import pytest

from connectors.kafka.offset_ledger import ClipPosition
from connectors.kafka.record import ERRORS_PREFIX
from tests.kafka.stand_in import (
    PLAN,
    AtLeastOnce,
    caption_clip,
    read_all,
    run_pipeline,
    running,
    seen,
    step,
    until,
    windows_of,
)
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
MakeTopics = Callable[..., Topics]


async def test_every_clip_is_captioned_once_in_order(make_topics: MakeTopics, transactional: bool) -> None:
    topics = make_topics(2)
    topics.produce([b"clip %d" % n for n in range(40)])
    route = topics.route(transactional=transactional, once=True)

    await run_pipeline(route)
    await route.close()

    records = topics.read()
    found = windows_of(records)
    assert len(found) == 40
    assert set(map(tuple, found.values())) == {(0, 1, 2)}
    assert {record.key for record in records} == {b"k%d" % n for n in range(40)}
    headers = dict(records[0].headers)
    assert headers["ce_id"].decode() == json.loads(records[0].value)["caption_id"]
    ends = [topics.committed(partition) for partition in (0, 1)]
    assert sum(position.offset for position in ends if position is not None) == 40
    assert all(position is None or not position.unfinished for position in ends)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_of_kafka_is_read_and_written(make_topics: MakeTopics, compression: str) -> None:
    topics = make_topics(2)
    topics.produce([b"clip" * 1000] * 10, compression=compression)
    sink = {"compression": compression}
    route = topics.route(transactional=False, once=True, sink=sink)

    await run_pipeline(route)
    await route.close()

    assert list(topics.windows().values()) == [[0, 1, 2]] * 10


async def test_a_long_clip_goes_on_at_its_window_and_its_neighbours_are_not_repeated(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics()
    topics.produce([b"a film", *[b"clip"] * 20])
    first = topics.route(transactional=transactional)
    film: list[int] = []

    async def work() -> None:
        async with asyncio.TaskGroup() as clips:
            async for delivery in first.deliveries():
                if delivery.handle.offset == 0:
                    await first.publish(step(delivery, 0, 37, last=False))
                    film.append(37)
                else:
                    clips.create_task(first.publish(step(delivery, 0, 1, last=True)))

    task = asyncio.create_task(work())
    await until(lambda: (position := topics.committed()) is not None and len(position.unfinished) == 1)
    assert topics.committed().unfinished == {0: ClipPosition(37, PLAN)}  # type: ignore[union-attr]
    await first.drain()
    await task
    await first.close()

    second = topics.route(transactional=transactional, once=True)
    seen = []
    async for delivery in second.deliveries():
        seen.append((delivery.handle.offset, delivery.position.next_window, delivery.position.plan_hash))
        await caption_clip(second, delivery, 40, _no_pause)
    await second.close()

    assert seen == [(0, 37, PLAN)]
    assert topics.windows()[f"{topics.clips}/0/0"] == list(range(40))


async def _no_pause() -> None:
    await asyncio.sleep(0)


async def test_null_values_are_skipped_and_bad_records_rejected_with_the_original(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics(2)
    topics.produce([None, b"", b'{"uri": "/etc/passwd"}', b"{", b"clip"], headers=[("color", b"blue")])
    route = topics.route(transactional=transactional)

    async with running(route):
        await until(lambda: len(seen(topics.bootstrap, topics.rejected)) == 3)

    letters = {record.value: record for record in topics.letters()}
    reasons = {
        value: dict(record.headers)[f"{ERRORS_PREFIX}exception.class.name"].decode()
        for value, record in letters.items()
    }
    assert reasons == {b"": "empty", b'{"uri": "/etc/passwd"}': "forbidden_path", b"{": "malformed"}
    assert letters[b"{"].key == b"k3"
    assert dict(letters[b"{"].headers)["color"] == b"blue"
    assert set(topics.windows()) == {
        f"{topics.clips}/{record.partition}/{record.offset}"
        for record in read_all(topics.bootstrap, topics.clips)
        if record.value == b"clip"
    }


async def test_quarantine_is_durable(make_topics: MakeTopics, transactional: bool) -> None:
    topics = make_topics(2)
    topics.produce([b"killer"])
    for quarantine in (0, 1, 2):
        route = topics.route(transactional=transactional)
        deliveries = route.deliveries()
        delivery = await anext(deliveries)
        assert delivery.position.quarantine == quarantine
        await route.quarantine(delivery)
        await route.close()
        await deliveries.aclose()


async def test_the_lag_is_what_was_not_delivered(make_topics: MakeTopics) -> None:
    topics = make_topics(2)
    topics.produce([b"clip %d" % n for n in range(10)], partition=1)
    route = topics.route(transactional=False, max_clips=3)
    assert isinstance(route, AtLeastOnce)
    assert route.source.lag == {}

    async with aclosing(route.deliveries()) as deliveries:
        taken = [await anext(deliveries) for _ in range(3)]
        # the other partition may be paused before it was looked at
        await until(lambda: route.source.lag.get((topics.clips, "1")) == 7)
        for delivery in taken:
            await caption_clip(route, delivery, 1, _at_once)
        for _ in range(3):
            await anext(deliveries)
        await until(lambda: route.source.lag.get((topics.clips, "1")) == 4)
    await route.close()


async def _at_once() -> None:
    """Pause between windows, not at all."""
