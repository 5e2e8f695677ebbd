"""Decoding children that die or hang: the clip is tried again, the others go on, nothing is left behind."""

import asyncio
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.errors import Reason, Transient
from daemon.memory_file import mapped
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from testing.open_files import open_files
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.sampling import SECONDS, clip_of, make_sampler, running, sample, wrong_frames
from tests.unit.daemon.decoding.processes import is_running

pytestmark = pytest.mark.slow  # it starts decoders


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A clip of 20 s in one group of pictures, so that its last window takes a while."""
    return make(tmp_path_factory.mktemp("clips") / "long", Recipe(frames=500, options={"g": "500", "bf": "0"}))


@pytest.mark.parametrize(
    ("strike", "reason"),
    [
        (signal.SIGKILL, Reason.DECODER_DIED),
        (signal.SIGSEGV, Reason.DECODER_DIED),
        (signal.SIGSTOP, Reason.DECODE_DEADLINE),
    ],
)
async def test_a_struck_child_is_replaced(strike: signal.Signals, reason: Reason, truth: Truth) -> None:
    before = open_files()
    sampler = make_sampler(deadline_s=2.0 if strike == signal.SIGSTOP else 60.0)  # a busy machine decodes slowly
    await sampler.start()
    pids = set(sampler.pool.pids)
    for _ in range(5):
        os.kill(sampler.pool.pids[0], strike)
        struck = await sample(sampler, truth.path)
        assert struck.fault is None or struck.reason == reason
        again = await sample(sampler, truth.path)
        assert again.fault is None
        assert wrong_frames(again, truth) == []
        pids |= set(sampler.pool.pids)
    await sampler.close()

    assert sampler.budget.held_bytes == 0
    assert not [pid for pid in pids if is_running(pid)]
    assert len(pids) > 5
    del struck, again
    assert open_files() == before


async def test_a_child_killed_in_the_middle_is_transient(truth: Truth) -> None:
    sampler = make_sampler()
    await sampler.start()
    plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
    got: list[int] = []
    fault = None
    try:
        async with aclosing(sampler.frame_sets(plan)) as sets:
            async for window in sets:
                assert isinstance(window, FrameSet)
                sampler.release(window)
                got.append(window.window.index)
                if len(got) == 2:
                    os.kill(sampler.pool.pids[0], signal.SIGKILL)
    except Transient as caught:
        fault = caught
    plan.close()
    rest = await sample(sampler, truth.path, first_window=len(got))
    await sampler.close()

    assert fault is not None
    assert fault.reason == Reason.DECODER_DIED
    assert got == list(range(len(got)))
    assert len(got) + len(rest.windows) == 20
    assert wrong_frames(rest, truth) == []
    assert sampler.budget.held_bytes == 0


async def test_another_clip_in_the_same_child_goes_on(tmp_path: Path, truth: Truth) -> None:
    async with running() as sampler:
        plan = await sampler.plan(clip_of(truth.path), WindowPolicy(NS_PER_S, NS_PER_S // 2, 0), FramePolicy())
        sets = sampler.frame_sets(plan)
        seen = []
        for _ in range(3):
            window = await anext(sets)
            assert isinstance(window, FrameSet)
            seen.append(window)
            sampler.release(window)
        await asyncio.sleep(0.5)  # the child has decoded ahead and waits
        os.kill(sampler.pool.pids[0], signal.SIGKILL)
        await sample(sampler, truth.path)  # finds the child dead, or starts a new one
        async for window in sets:
            assert isinstance(window, FrameSet)
            seen.append(window)
            sampler.release(window)
        plan.close()

    assert [window.window.index for window in seen] == list(range(len(plan.windows)))
    for window in seen:
        assert [int(pts) for pts in window.pts_ns] == [int(plan.pts_ns[n]) for n in window.window.frame_indices]


async def test_leaving_early_gives_everything_back(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        for count in range(4):
            plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
                    if window.window.index == count:
                        break
            plan.close()
            plan.close()
            assert sampler.budget.held_bytes == 0

    del window  # frames keep the descriptor of their memory file for as long as somebody has them
    assert open_files() == before


async def test_cancelled_plans_leave_nothing(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        for pause_s in (0, 0.001, 0.003, 0.01, 0.03):
            tasks = [asyncio.create_task(sample(sampler, truth.path)) for _ in range(6)]
            await asyncio.sleep(pause_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        outcome = await sample(sampler, truth.path)
        assert sampler.budget.held_bytes == 0
        assert wrong_frames(outcome, truth) == []

    del outcome, tasks, task  # frames keep the descriptor of their memory file
    assert open_files() == before


async def test_a_close_that_is_cancelled_leaves_nothing(truth: Truth) -> None:
    before, sampler = open_files(), make_sampler()
    await sampler.start()
    assert (await sample(sampler, truth.path)).fault is None
    (pid,) = sampler.pool.pids
    closing = asyncio.create_task(sampler.close())
    await asyncio.sleep(0)

    closing.cancel()
    await asyncio.wait([closing])

    assert closing.cancelled()
    assert not is_running(pid)
    assert open_files() == before


async def test_a_clip_runs_six_windows_ahead_at_most(truth: Truth) -> None:
    frame_set_bytes = 8 * 256 * 144 * 3
    async with running() as sampler:
        plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
        async with aclosing(sampler.frame_sets(plan)) as sets:
            window = await anext(sets)
            while sampler.budget.held_bytes < 7 * frame_set_bytes:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert sampler.budget.held_bytes == 7 * frame_set_bytes  # six ahead, and the one that was taken
            assert isinstance(window, FrameSet)
            sampler.release(window)
        plan.close()


async def test_many_clips_share_a_small_budget(tmp_path: Path) -> None:
    clips = [make(tmp_path / f"clip{k}", Recipe(frames=100)) for k in range(6)]
    windows = WindowPolicy(NS_PER_S, NS_PER_S // 2, 0)
    three_windows = 3 * 8 * 256 * 144 * 3
    async with running(in_flight_bytes=three_windows, decoders=2) as sampler:
        outcomes = await asyncio.gather(*(sample(sampler, clip.path, windows) for clip in clips))

    for clip, outcome in zip(clips, outcomes, strict=True):
        assert outcome.fault is None
        assert wrong_frames(outcome, clip) == []


async def test_children_are_replaced_after_their_share(truth: Truth) -> None:
    sampler = make_sampler()
    sampler.pool._clips_a_child = 3
    await sampler.start()
    pids = []
    for _ in range(7):
        assert (await sample(sampler, truth.path, WindowPolicy())).fault is None
        pids.append(sampler.pool.pids[0])
    await sampler.close()

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    assert not [pid for pid in pids if is_running(pid)]


async def test_a_child_holds_clips_of_one_source_alone(truth: Truth) -> None:
    async with running() as sampler:
        pids = {}
        for source in ("a", "b", "a", "c"):
            clip = replace(clip_of(truth.path), source=source)
            plan = await sampler.plan(clip, WindowPolicy(), FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
            assert plan.session.opened_in is not None
            pids.setdefault(source, set()).add(plan.session.opened_in.pid)
            plan.close()

    assert [len(of_source) for of_source in pids.values()] == [1, 1, 1]
    assert len(set.union(*pids.values())) == 3


async def test_frames_that_are_shared_come_with_their_memory_file_until_they_go(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        sampler.shares_frames = True
        plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
        async with aclosing(sampler.frame_sets(plan)) as sets:
            async for window in sets:
                assert isinstance(window, FrameSet)
                seen = mapped(window.memory_file, window.frames.nbytes).reshape(window.frames.shape)
                assert (seen == window.frames).all()
                sampler.release(window, let_go=True)
                assert window.memory_file == -1
                assert window.frames.max() == 0
        plan.close()
        del window, seen

    assert open_files() == before
