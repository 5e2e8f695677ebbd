"""The byte budget: whole reservations, in order, and everybody's turn comes."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.decoding.budgets import ByteBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_reservations_are_granted_in_order() -> None:
    budget, granted = ByteBudget(100), []

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
    budget = ByteBudget(100)
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
    budget = ByteBudget(100)
    await budget.reserve(100)
    waiting = asyncio.create_task(budget.reserve(60))
    await settle()
    budget.release(100)  # granted, but the task has not run yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert budget.held_bytes == 0


async def test_a_cancelled_wait_may_be_passed_over_before_it_knows() -> None:
    budget = ByteBudget(100)
    await budget.reserve(100)
    waiting = asyncio.create_task(budget.reserve(60))
    await settle()
    waiting.cancel()
    budget.release(100)  # before the cancelled task has run
    await asyncio.gather(waiting, return_exceptions=True)

    assert budget.held_bytes == 0
    assert budget.try_reserve(100)


async def test_what_never_fits_is_refused_at_once() -> None:
    budget = ByteBudget(100)

    with pytest.raises(ValueError, match="more than may be held"):
        await budget.reserve(101)
    with pytest.raises(ValueError, match="more bytes were given back"):
        budget.release(1)


@given(
    limit_bytes=st.integers(1, 50),
    clips=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=8),
    seed=st.randoms(use_true_random=False),
)
async def test_clips_that_hold_windows_and_wait_for_more_all_end(
    limit_bytes: int, clips: list[list[int]], seed: random.Random
) -> None:
    """Each clip reserves its windows one after the other; an engine gives back any that is held, in any order."""
    budget, held = ByteBudget(limit_bytes), list[int]()

    async def clip(windows: list[int]) -> None:
        for size_bytes in windows:
            await budget.reserve(min(size_bytes, limit_bytes))
            held.append(min(size_bytes, limit_bytes))
            assert budget.held_bytes <= limit_bytes

    tasks = [asyncio.create_task(clip(windows)) for windows in clips]
    for _ in range(sum(map(len, clips))):
        await settle()
        budget.release(held.pop(seed.randrange(len(held))))
    await asyncio.gather(*tasks)

    assert (held, budget.held_bytes) == ([], 0)
