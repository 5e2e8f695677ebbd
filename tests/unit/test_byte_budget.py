"""The byte budget: whole reservations, in order, and encoded clips never keep frames from theirs."""

import asyncio

import pytest

from daemon.byte_budget import ByteBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_reservations_are_granted_in_order() -> None:
    budget, granted = ByteBudget(100, 0), []

    async def ask(name: str, size_bytes: int) -> None:
        await budget.reserve(size_bytes)
        granted.append(name)

    await budget.reserve(80)
    tasks = [asyncio.create_task(ask("large", 90)), asyncio.create_task(ask("small", 10))]
    await settle()
    assert granted == []  # the small one would fit, but came later
    budget.release(80)
    await settle()
    assert granted == ["large", "small"]
    await asyncio.gather(*tasks)
    assert budget.held_bytes == 100
    assert not budget.try_reserve(1)


async def test_a_cancelled_wait_lets_the_next_one_in() -> None:
    budget = ByteBudget(100, 0)
    await budget.reserve(50)
    large = asyncio.create_task(budget.reserve(100))
    await settle()
    small = asyncio.create_task(budget.reserve(50))
    await settle()
    large.cancel()
    await settle()

    assert small.done()
    assert budget.held_bytes == 100


async def test_cancelled_after_the_grant_gives_it_back() -> None:
    budget = ByteBudget(100, 0)
    await budget.reserve(100)
    waiting = asyncio.create_task(budget.reserve(60))
    await settle()
    budget.release(100)  # granted, but the task has not run yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert budget.held_bytes == 0


async def test_encoded_clips_leave_room_for_frames() -> None:
    budget = ByteBudget(100)
    await budget.reserve(50, encoded=True)
    second = asyncio.create_task(budget.reserve(50, encoded=True))
    await settle()
    await asyncio.wait_for(budget.reserve(50), 1)
    assert not second.done()
    budget.release(50)
    await settle()
    assert not second.done()  # encoded clips are at their own bound
    budget.release(50, encoded=True)
    await settle()
    assert second.done()


async def test_frames_pass_an_encoded_clip_that_waits() -> None:
    budget = ByteBudget(100)
    await budget.reserve(50)
    await budget.reserve(10)
    encoded = asyncio.create_task(budget.reserve(50, encoded=True))
    await settle()

    assert budget.try_reserve(40)
    assert not encoded.done()
    encoded.cancel()


async def test_what_never_fits_is_refused_at_once() -> None:
    budget = ByteBudget(100)

    with pytest.raises(ValueError, match="more than may be held"):
        await budget.reserve(51)
    with pytest.raises(ValueError, match="more than may be held"):
        await budget.reserve(51, encoded=True)
    with pytest.raises(ValueError, match="more bytes were given back"):
        budget.release(1)
