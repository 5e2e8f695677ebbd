"""Slots are bounded, fair between sources, and a suspect is alone."""

import asyncio
from contextlib import ExitStack

from daemon.slots import PUBLISHING, FairSlots


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_the_capacity() -> None:
    slots = FairSlots(2, 1)
    waiting = [asyncio.create_task(slots.acquire("a")) for _ in range(3)]
    await _turns()

    assert [task.done() for task in waiting] == [True, True, False]

    slots.release("a")
    await _turns()

    assert waiting[2].done()


async def test_a_source_below_its_share_goes_first() -> None:
    slots = FairSlots(4, 2)
    for _ in range(4):
        await slots.acquire("backlog")
    more = asyncio.create_task(slots.acquire("backlog"))
    await _turns()
    other = asyncio.create_task(slots.acquire("other"))
    await _turns()

    slots.release("backlog")
    await _turns()

    assert other.done()
    assert not more.done()
    more.cancel()


async def test_a_suspect_waits_for_the_others_and_keeps_them_out() -> None:
    slots = FairSlots(4, 1)
    await slots.acquire("a")
    suspect = asyncio.create_task(slots.acquire("a", alone=True))
    await _turns()
    behind = asyncio.create_task(slots.acquire("a"))
    await _turns()

    assert not suspect.done()
    assert not behind.done()

    slots.release("a")
    await _turns()

    assert suspect.done()
    assert not behind.done()

    slots.release("a")
    await _turns()

    assert behind.done()


async def test_a_cancelled_wait_gives_its_turn_away() -> None:
    slots = FairSlots(1, 1)
    await slots.acquire("a")
    first = asyncio.create_task(slots.acquire("a"))
    second = asyncio.create_task(slots.acquire("a"))
    await _turns()
    first.cancel()
    await _turns()

    slots.release("a")
    await _turns()

    assert second.done()
    assert slots.in_flight == 1


async def test_a_clip_whose_end_is_made_durable_lends_its_slot_and_no_more_than_a_bound_do() -> None:
    slots = FairSlots(1, 1)
    with ExitStack() as waiting:
        for _ in range(PUBLISHING):
            await slots.acquire("a")
            waiting.enter_context(slots.publishing("a"))
        await slots.acquire("a")
        with slots.publishing("a"):
            assert slots.in_flight == 1  # one more lends nothing
        slots.release("a")

        alone = asyncio.create_task(slots.acquire("a", alone=True))
        await asyncio.sleep(0)
        assert not alone.done()  # what is published is still in flight

    for _ in range(PUBLISHING):
        slots.release("a")
    await alone
    with slots.publishing("a"):
        other = asyncio.create_task(slots.acquire("a"))
        await asyncio.sleep(0)
        assert not other.done()  # who is alone lends nothing
    slots.release("a")
    await other
