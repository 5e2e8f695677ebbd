"""Clips that all fail alike are given back instead of rejected, and one success tells theirs from the rest."""

import asyncio

import pytest

from connectors.contract import PROMPT_FROM, SENDER
from connectors.errors import ConfigurationError
from tests.pipeline.alike import ALL, filled, house, until


@pytest.mark.parametrize("clips", [1, 2, 8])
@pytest.mark.parametrize("there", [3, 9])
async def test_an_inbox_is_not_emptied(video: bytes, clips: int, there: int) -> None:
    """Also where fewer clips fit in flight than must fail."""
    inbox = filled(video, *map(str, range(there)))

    async with house(inbox, clips=clips) as one:
        one.fake.script = ALL
        with pytest.raises(ConfigurationError, match=r"engine: source memory gave its clips back.*engine_refused"):
            await one.pipeline.run()
        assert one.pipeline.slots.in_flight == 0

    assert len(inbox.unfinished) == there
    assert inbox.ended == {}


async def test_fewer_are_rejected_at_the_end(video: bytes) -> None:
    inbox = filled(video, "a", "b")

    async with house(inbox) as one:
        one.fake.script = ALL
        await one.pipeline.run()

    assert one.reasons() == {"a": "engine_refused", "b": "engine_refused"}


@pytest.mark.parametrize(("clips", "names"), [(1, ["a", "b", "good", "c", "d"]), (8, ["a", "b", "good"])])
async def test_one_success_tells_whose_fault_it_is(video: bytes, clips: int, names: list[str]) -> None:
    inbox = filled(video, *names)
    bad = [name for name in names if name != "good"]

    async with house(inbox, clips=clips) as one:
        one.refuse(*bad)
        await one.pipeline.run()

    assert one.reasons() == dict.fromkeys(bad, "engine_refused")
    assert inbox.ended["good"].rejection is None


async def test_a_clip_that_still_runs_may_succeed(video: bytes) -> None:
    """Many that fail fast say nothing before the slow one beside them has ended."""
    inbox = filled(video, "slow", *(f"bad{number}" for number in range(5)))

    async with house(inbox) as one:
        one.refuse(*(f"bad{number}" for number in range(5)))
        one.fake.slow, one.fake.goes_on = one.clip_id("slow"), asyncio.Event()
        work = asyncio.create_task(one.pipeline.run())
        await until(lambda: len(one.alike._sources["memory"].held) >= 3)
        await asyncio.sleep(0.2)  # nothing happens
        assert inbox.ended == {}
        one.fake.goes_on.set()
        await work

    assert len(one.reasons()) == 5
    assert inbox.ended["slow"].rejection is None


async def test_each_reason_counts_by_itself(video: bytes) -> None:
    inbox = filled(video, "a", "long1", "b", "long2")

    async with house(inbox) as one:
        one.refuse("a", "b")
        await one.pipeline.run()

    assert sorted(one.reasons().values()) == ["engine_refused", "engine_refused", "over_context", "over_context"]


async def test_what_is_a_clips_own_is_rejected_at_once(video: bytes) -> None:
    inbox = filled(b"no video", *map(str, range(5)))

    async with house(inbox) as one:
        await one.pipeline.run()

    assert set(one.reasons().values()) == {"not_a_video"}


async def test_a_senders_question_does_not_pause_anybody(video: bytes) -> None:
    inbox = filled(video, *(f"long{number}" for number in range(5)), **{PROMPT_FROM: SENDER})

    async with house(inbox) as one:
        await one.pipeline.run()

    assert list(one.reasons().values()) == ["over_context"] * 5


async def test_zero_turns_it_off(video: bytes) -> None:
    inbox = filled(video, *map(str, range(7)))

    async with house(inbox, number=0) as one:
        one.fake.script = ALL
        await one.pipeline.run()

    assert len(one.reasons()) == 7
