"""Turns in a slot of the decoder pool: in the order of asking, but for those that are wanted soon."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.decoding.pool import SlotTurns
from daemon.decoding.process import DecoderProcess
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from neva.shapes.scenes import random_scene, write_clip
from tests.corpus.sampling import clip_of, running


async def take(turns: SlotTurns, name: str, had: list[str], *, soon: bool = False) -> None:
    async with turns.turn(soon=soon):
        had.append(name)
        await asyncio.sleep(0)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_come_in_the_order_of_asking_but_for_those_that_are_wanted_soon() -> None:
    turns, had = SlotTurns(), list[str]()

    async with turns.turn():
        waiting = [asyncio.create_task(take(turns, name, had, soon=name.isupper())) for name in "abCdE"]
        await settled()
        assert had == []
        assert turns.taken
    await asyncio.gather(*waiting)

    assert had == ["C", "E", "a", "b", "d"]
    assert not turns.taken


async def test_a_wait_that_is_cancelled_takes_no_turn_from_the_others() -> None:
    turns, had = SlotTurns(), list[str]()

    async with turns.turn():
        waiting = [asyncio.create_task(take(turns, name, had)) for name in "abc"]
        await settled()
        waiting[0].cancel()
        await settled()
    waiting[1].cancel()  # it has the turn by now, and has not begun
    await asyncio.gather(*waiting, return_exceptions=True)

    assert had == ["c"]
    assert not turns.taken


async def test_an_error_ends_a_turn() -> None:
    turns, had = SlotTurns(), list[str]()

    try:
        async with turns.turn():
            raise ValueError
    except ValueError:
        await take(turns, "a", had)

    assert had == ["a"]


async def test_clips_of_many_sources_at_once_need_little_more_than_a_child_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were all of them planned before one is decoded, each would need a second child: few are kept."""
    write_clip(tmp_path / "clip.mp4", random_scene(1))
    started, start = list[DecoderProcess](), DecoderProcess.start
    windows = list[int]()

    async def counted(child: DecoderProcess) -> None:
        started.append(child)
        await start(child)

    async with running() as sampler:

        async def captioned(source: str) -> None:
            clip = replace(clip_of(tmp_path / "clip.mp4"), source=source)
            plan = await sampler.plan(clip, WindowPolicy(whole=True), FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as frame_sets:
                async for window in frame_sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
                    windows.append(window.window.index)
            plan.close()

        monkeypatch.setattr(DecoderProcess, "start", counted)
        await asyncio.gather(*(captioned(f"cam{at}") for at in range(12)))

    assert len(windows) == 12
    assert len(started) <= 14
