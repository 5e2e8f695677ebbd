"""Members come and go, are fenced and are late: nothing is lost, and nothing is committed after a revoke (R1-R3)."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from connectors.kafka.client.producer import open_producer
from tests.kafka.deliveries import SLOW_TRANSACTIONAL
from tests.kafka.stand_in import (
    run_pipeline,
    running,
    step,
    until,
    windows_of,
)
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
MakeTopics = Callable[..., Topics]
CLIPS, WINDOWS = 120, 4


@SLOW_TRANSACTIONAL
async def test_a_member_that_comes_and_goes_costs_nothing(make_topics: MakeTopics, transactional: bool) -> None:
    topics = make_topics(4, captions=2)
    topics.produce([b"clip %d" % n for n in range(CLIPS)])
    steady = topics.route(transactional=transactional, max_clips=8)
    revokes = 0

    async with running(steady, windows=WINDOWS, pause_s=0.05):
        for _ in range(3):
            guest = topics.route(transactional=transactional, max_clips=8)
            async with running(guest, windows=WINDOWS, pause_s=0.05):
                await asyncio.sleep(2)
            revokes += 1
        await until(lambda: len(windows_of(topics.seen())) == CLIPS, 90)
        await until(lambda: sum(map(len, windows_of(topics.seen()).values())) >= CLIPS * WINDOWS, 60)

    found = topics.windows()
    assert {clip: sorted(set(indices)) for clip, indices in found.items()} == {
        clip: list(range(WINDOWS)) for clip in found
    }
    repeated = sum(len(indices) - WINDOWS for indices in found.values())
    print(f"{revokes} members came and went: {CLIPS * WINDOWS} windows, {repeated} repeated")
    assert repeated <= (0 if transactional else revokes * 2 * 8 * WINDOWS)
    for indices in found.values():
        firsts = list(dict.fromkeys(indices))
        assert firsts == sorted(firsts)


@SLOW_TRANSACTIONAL
async def test_a_settlement_after_the_revoke_is_counted_and_changes_nothing(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics(2)
    topics.produce([b"clip %d" % n for n in range(20)])
    first = topics.route(transactional=transactional)
    held = []
    deliveries = first.deliveries()
    while len(held) < 20:
        held.append(await anext(deliveries))
    second = topics.route(transactional=transactional)
    taken_over = []

    async def take_over() -> None:
        async for delivery in second.deliveries():
            taken_over.append(delivery)

    task = asyncio.create_task(take_over())
    await until(lambda: len(taken_over) >= 8)
    moved = {delivery.clip.clip_id for delivery in taken_over}
    before = [topics.committed(partition) for partition in (0, 1)]

    late = [delivery for delivery in held if delivery.clip.clip_id in moved]
    await asyncio.gather(*(first.publish(step(delivery, 0, 1, last=True)) for delivery in late))

    source = getattr(first, "source")  # noqa: B009
    assert source.counters["late_settlements"] == len(late) == len(moved)
    assert [topics.committed(partition) for partition in (0, 1)] == before
    if transactional:
        assert topics.read() == []
    await second.drain()
    await task
    await second.close()
    await first.close()
    await deliveries.aclose()


async def test_a_revoked_partition_is_fenced_before_the_group_hears_that_it_is_free(
    make_topics: MakeTopics, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary over one round of kafka-python's poll: revoked, committed and fenced, and only then joined again."""
    topics = make_topics(2)
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger="kafka")  # another test of this process may have silenced it
    topics.produce([b"clip %d" % n for n in range(100)])
    first = topics.route(transactional=False)
    second = topics.route(transactional=False)

    async with running(first, windows=1, pause_s=0.05, slots=8):
        await asyncio.sleep(1.0)
        async with running(second, windows=1, pause_s=0.05, slots=8):
            await until(lambda: "partitions revoked." in caplog.text, 60)
            await until(lambda: len(topics.seen()) >= 100, 60)

    said = [record.getMessage() for record in caplog.records]
    freed = next(n for n, message in enumerate(said) if message.startswith("Cooperative") and "revoked={" in message)
    fenced = next(n for n, message in enumerate(said) if n > freed and message.endswith("partitions revoked."))
    by = [record.thread for record in caplog.records]  # each member has one: the other may join meanwhile
    joins = [n for n, message in enumerate(said) if message.startswith("(Re-)joining group") and by[n] == by[freed]]
    joined = next(n for n in joins if n > freed)
    assert fenced < joined
    assert len(topics.read()) == 100


async def test_a_fenced_producer_is_replaced_and_nothing_is_written_twice(
    make_topics: MakeTopics,
) -> None:
    topics = make_topics()
    topics.produce([b"clip %d" % n for n in range(60)])
    route = topics.route(transactional=True)
    task = asyncio.create_task(run_pipeline(route, windows=2, pause_s=0.05, slots=4))
    await until(lambda: len(topics.seen()) > 10)
    slot = getattr(route, "_slot")  # noqa: B009
    for _ in range(3):
        thief = open_producer(
            topics.sink_settings(), client_id="thief", path="", transactional_id=slot.transactional_id
        )
        await asyncio.to_thread(thief.init_transactions)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(thief.close, 1)
    await until(lambda: len(topics.seen()) >= 120, 60)
    await route.drain()
    await task
    await route.close()

    assert set(map(tuple, topics.windows().values())) == {(0, 1)}
    assert len(topics.read()) == 120
