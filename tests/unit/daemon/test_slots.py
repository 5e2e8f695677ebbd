"""Slots are bounded, fair between sources, and a suspect is alone."""

import asyncio
from contextlib import ExitStack

import pytest

from daemon.slots import PUBLISHING, FairSlots, Priorities, PrioritySlots

THREE = Priorities({"cam": "live", "inbox": "normal", "films": "backfill"}, backfill_share=0.1)


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


async def _order(slots: FairSlots | PrioritySlots, waiting: list[str]) -> list[str]:
    """Return in which order a slot goes round among those that wait for it, of which there is none free."""
    had: list[str] = []

    async def take(source: str) -> None:
        await slots.acquire(source)
        had.append(source)
        if isinstance(slots, FairSlots):
            slots.release(source)
        else:
            slots.release()

    tasks = [asyncio.create_task(take(source)) for source in waiting]
    await _turns()
    assert had == []
    slots.release("cam") if isinstance(slots, FairSlots) else slots.release()
    await asyncio.gather(*tasks)
    return had


@pytest.mark.parametrize("kind", [FairSlots, PrioritySlots])
async def test_slots_go_to_live_first_and_to_backfill_last(kind: type) -> None:
    slots = FairSlots(1, 3, THREE) if kind is FairSlots else PrioritySlots(1, THREE)
    await slots.acquire("cam")

    had = await _order(slots, ["films", "inbox", "cam", "films", "cam", "inbox"])

    assert had == ["cam", "cam", "inbox", "inbox", "films", "films"]


@pytest.mark.parametrize("kind", [FairSlots, PrioritySlots])
async def test_backfill_has_its_share_of_the_turns_while_others_wait(kind: type) -> None:
    slots = FairSlots(1, 3, THREE) if kind is FairSlots else PrioritySlots(1, THREE)
    await slots.acquire("cam")

    had = await _order(slots, ["films"] * 5 + ["cam"] * 40)

    assert [at for at, source in enumerate(had) if source == "films"][:4] == [9, 19, 29, 39]


async def test_sources_of_one_priority_take_turns_in_the_engine_however_many_windows_one_of_them_has() -> None:
    slots = PrioritySlots(1)
    await slots.acquire("topic")

    had = await _order(slots, ["topic"] * 30 + ["cam"] * 3)

    assert had == ["topic", "cam"] * 3 + ["topic"] * 27


async def test_without_a_share_backfill_waits_for_all_others() -> None:
    slots = PrioritySlots(1, Priorities(THREE.of, 0.0))
    await slots.acquire("cam")

    assert await _order(slots, ["films"] + ["cam"] * 30) == ["cam"] * 30 + ["films"]


async def test_a_slot_is_kept_for_each_live_source_whatever_films_wait() -> None:
    slots = FairSlots(4, 2, Priorities({"cam": "live", "films": "backfill"}, 0.5))
    films = [asyncio.create_task(slots.acquire("films")) for _ in range(9)]
    await _turns()
    assert slots.in_flight == 3

    await asyncio.wait_for(slots.acquire("cam"), 30)

    assert slots.in_flight == 4
    for film in films:
        film.cancel()
    await asyncio.gather(*films, return_exceptions=True)


async def test_backfill_has_no_turns_before_others_once_it_holds_its_share_of_the_slots() -> None:
    slots = FairSlots(10, 2, Priorities({"films": "backfill"}, 0.2))
    for source in ["films"] * 2 + ["inbox"] * 8:
        await slots.acquire(source)
    waiting = [asyncio.create_task(slots.acquire(source)) for source in ["films"] + ["inbox"] * 20]
    await _turns()
    for _ in range(20):
        slots.release("inbox")
        await _turns()

    assert [task.done() for task in waiting] == [False] + [True] * 20
    waiting[0].cancel()


async def test_a_wait_that_was_cancelled_is_handed_no_slot() -> None:
    for slots in (FairSlots(1, 1), PrioritySlots(1)):
        await slots.acquire("a")
        first, second = (asyncio.create_task(slots.acquire("a")) for _ in range(2))
        await _turns()
        first.cancel()
        slots.release("a") if isinstance(slots, FairSlots) else slots.release()

        await asyncio.wait_for(second, 30)
