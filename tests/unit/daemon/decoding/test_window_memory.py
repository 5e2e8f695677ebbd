"""The memory of windows: filled again by the same child, within the budget, and gone soon after the last clip."""

import asyncio
import os
import random
import resource
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.decoding import window_memory
from daemon.decoding.budgets import ByteBudget
from daemon.decoding.window_memory import WindowMemory
from daemon.memory_file import MemoryFile
from daemon.windows import FramePolicy, FrameSet
from testing.open_files import open_files
from tests.corpus.clips import Recipe, make
from tests.corpus.sampling import SECONDS, clip_of, read, running, wrong_in

SIZE = 10_000


def of(child: str, limit_bytes: int = 10 * SIZE) -> WindowMemory:
    memory = WindowMemory(ByteBudget(limit_bytes))
    memory.open(child)
    return memory


def take(memory: WindowMemory, child: str, size_bytes: int = SIZE) -> MemoryFile:
    file = memory.try_reserve(child, size_bytes)
    assert file is not None
    return file


def show(memory: WindowMemory, child: str, file: MemoryFile) -> NDArray[np.uint8]:
    """Lend what is shown, and give its bytes back, as whoever has read it does."""
    memory.budget.release(file.size_bytes)
    return memory.lend(child, file)


async def test_a_file_is_filled_again_once_nobody_reads_it() -> None:
    memory = of("a")
    first = take(memory, "a")
    frames = show(memory, "a", first)

    second = take(memory, "a")
    del frames
    third = take(memory, "a")

    assert second is not first
    assert third is first
    assert memory.budget.held_bytes == 2 * SIZE
    assert memory.spare_bytes == 0
    memory.drop(second)
    memory.drop(third)
    memory.close_all()


async def test_it_never_goes_to_another_child_nor_to_windows_of_another_size() -> None:
    memory = of("a")
    memory.open("b")
    first = take(memory, "a")
    show(memory, "a", first)

    others = [take(memory, "b"), take(memory, "a", SIZE + 1)]
    again = take(memory, "a")

    assert first not in others
    assert again is first
    for file in (*others, again):
        memory.drop(file)
    memory.close_all()


async def test_what_is_spare_goes_where_its_bytes_are_needed() -> None:
    before, memory = open_files(), of("a", 3 * SIZE)
    memory.open("b")
    for file in [take(memory, "a") for _ in range(3)]:
        show(memory, "a", file)
    kept = take(memory, "a")
    assert memory.spare_bytes == 2 * SIZE

    large = take(memory, "b", 2 * SIZE)

    assert memory.spare_bytes == 0
    memory.drop(kept)
    memory.drop(large)
    memory.close_all()
    assert open_files() == before


async def test_what_comes_back_when_its_bytes_are_given_on_is_filled_again_or_gone() -> None:
    before, memory = open_files(), of("a", 2 * SIZE)
    memory.open("b")
    first, second = take(memory, "a"), take(memory, "a")
    frames = [memory.lend("a", first), memory.lend("a", second)]
    same = asyncio.create_task(memory.reserve("a", SIZE))
    await asyncio.sleep(0)
    memory.budget.release(SIZE)
    del frames[0]

    assert await same is first  # the budget is full again, with this file

    other = asyncio.create_task(memory.reserve("b", SIZE))
    await asyncio.sleep(0)
    memory.budget.release(SIZE)
    found = await other
    frames.clear()  # only now, and nobody asks for anything any more
    await asyncio.sleep(0)

    assert memory.spare_bytes == 0
    assert second.descriptor == -1
    memory.drop(first)
    memory.drop(found)
    memory.close_all()
    assert open_files() == before


async def test_no_more_goes_than_is_needed() -> None:
    memory = of("a", 10 * SIZE)
    memory.open("b")
    files = [take(memory, "a") for _ in range(8)]
    for file in files:
        show(memory, "a", file)
    await asyncio.sleep(0)

    large = take(memory, "b", 4 * SIZE)

    assert [file.descriptor >= 0 for file in files] == [False] * 2 + [True] * 6
    memory.drop(large)
    memory.close_all()


async def test_without_a_descriptor_left_nothing_is_reserved() -> None:
    memory, (soft, hard) = of("a"), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            memory.try_reserve("a", SIZE)
        with pytest.raises(OSError, match="Too many open files"):
            await memory.reserve("a", SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert memory.budget.held_bytes == 0
    memory.close_all()


async def test_it_all_goes_soon_after_the_last_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_memory, "_KEPT_S", 0.05)
    before, memory = open_files(), of("a")
    memory.open("a")
    frames = show(memory, "a", take(memory, "a"))
    show(memory, "a", take(memory, "a"))

    memory.close("a")
    await asyncio.sleep(0.1)
    assert open_files() != before  # another clip is open in the same child

    memory.close("a")
    await asyncio.sleep(0.03)
    memory.open("a")  # the next one comes in time
    memory.close("a")
    await asyncio.sleep(0.03)
    memory.open("a")
    await asyncio.sleep(0.1)
    assert open_files() != before

    memory.close("a")
    await asyncio.sleep(0.1)
    del frames
    assert memory.spare_bytes == 0
    assert open_files() == before


async def test_random_windows_stay_within_the_budget() -> None:
    before, chosen, memory = open_files(), random.Random(16), WindowMemory(ByteBudget(12 * SIZE))
    filling, lent = list[tuple[str, MemoryFile]](), list[NDArray[np.uint8]]()
    for child in "abc":
        memory.open(child)
    for _ in range(3000):
        child, what = chosen.choice("abc"), chosen.random()
        if what < 0.5 and (file := memory.try_reserve(child, chosen.choice((SIZE, 2 * SIZE)))) is not None:
            os.pwrite(file.descriptor, child.encode() * file.size_bytes, 0)
            filling.append((child, file))
        elif what < 0.8 and filling:
            child, file = filling.pop(chosen.randrange(len(filling)))
            lent.append(show(memory, child, file))
            assert {lent[-1][0], lent[-1][-1]} == {ord(child)}
        elif lent:
            lent.pop(chosen.randrange(len(lent)))
        assert memory.budget.held_bytes + memory.spare_bytes <= 12 * SIZE
        assert memory.budget.held_bytes == sum(file.size_bytes for _, file in filling)
    for _, file in filling:
        memory.drop(file)
    lent.clear()
    memory.close_all()
    assert memory.spare_bytes == 0
    assert open_files() == before


@pytest.mark.slow  # it starts decoders
@pytest.mark.parametrize("shared", [True, False])
async def test_a_clips_windows_share_a_few_files_and_show_their_own_frames(tmp_path: Path, shared: bool) -> None:
    truth = make(tmp_path / "long", Recipe(frames=500, size=(320, 240), options={"g": "50", "bf": "2"}))
    before, files, kept = open_files(), set[int](), list[NDArray[np.uint8]]()
    async with running() as sampler:
        sampler.shares_frames = shared
        plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
        async with aclosing(sampler.frame_sets(plan)) as sets:
            async for window in sets:
                assert isinstance(window, FrameSet)
                files.add(window.frames.ctypes.data)
                assert wrong_in(window, truth) == []
                if window.window.index % 5 == 0:
                    kept.append(window.frames)  # whoever keeps frames keeps them as they are
                sampler.release(window)
        plan.close()
        shown = [int(read(frames[0])) for frames in kept]
        assert shown == [truth.number_at(w.sample_ns[0]) for w in plan.windows[::5]]
        assert len(files) < len(plan.windows)

    del window, kept
    assert open_files() == before


@pytest.mark.slow
async def test_a_second_source_has_files_of_its_own(tmp_path: Path) -> None:
    truth = make(tmp_path / "short", Recipe(frames=100, options={"g": "50"}))
    files = dict[str, set[int]]()
    async with running(decoders=1) as sampler:
        sampler.shares_frames = True
        for source in ("a", "b", "a", "b"):
            plan = await sampler.plan(replace(clip_of(truth.path), source=source), SECONDS, FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    files.setdefault(source, set()).add(os.fstat(window.memory_file).st_ino)
                    sampler.release(window)
                    del window
            plan.close()

    assert not files["a"] & files["b"]
    assert len(files["a"]) < 8  # of two clips of four windows


def shared_kib(pid: int | None) -> int:
    """Return what a process has of memory that others may have too."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssShmem"))


@pytest.mark.slow
async def test_a_decoder_keeps_nothing_of_clips_that_are_left_early(tmp_path: Path) -> None:
    truth = make(tmp_path / "long", Recipe(frames=480, size=(640, 480), options={"g": "50"}))
    seen = []
    async with running(decoders=1) as sampler:
        for count in (6, 7, 8, 9, 10, 11, 12):
            plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window, let_go=True)
                    if window.window.index == count:
                        break
            (pid,) = sampler.pool.pids
            seen.append(shared_kib(pid))
            plan.close()
        del window
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not shared_kib(pid):
                break

        assert max(seen) > 0
        assert shared_kib(pid) == 0
