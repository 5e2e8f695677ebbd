"""An hour costs no more memory than a minute but for its index, which is reserved before it is read."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.errors import Reason, Transient
from daemon.decoding.index_block import TIMES_BYTES
from daemon.decoding.protocol import MAX_SMALL_INDEX_BYTES
from daemon.decoding.sampler import Sampler
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy
from testing.repository import ROOT
from tests.corpus.clips import Recipe, make, repeat
from tests.corpus.sampling import clip_of, running, sample

pytestmark = pytest.mark.slow  # it starts decoders

PROBE = """
import asyncio, json, sys
from contextlib import aclosing
from pathlib import Path
from daemon.windows import FramePolicy, WindowPolicy
from tests.corpus.sampling import clip_of, make_sampler

def peak(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM"))

def ticks(pid):
    return sum(int(field) for field in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])

async def main():
    sampler = make_sampler()
    await sampler.start()
    plan = await sampler.plan(clip_of(Path(sys.argv[1])), WindowPolicy(), FramePolicy())
    windows, at_first, (pid,) = 0, 0, sampler.pool.pids
    planned = ticks(pid)
    async with aclosing(sampler.frame_sets(plan)) as sets:
        async for window in sets:
            at_first = at_first or ticks(pid) - planned
            windows += 1
            sampler.release(window)
    whole = ticks(pid) - planned
    print(json.dumps({"windows": windows, "peak_kib": peak("self") + peak(pid), "first": at_first, "whole": whole}))
    plan.close()
    await sampler.close()

asyncio.run(main())
"""


def measured(path: Path) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(300)
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    options = {"g": "50", "preset": "ultrafast", "crf": "35"}
    minute = make(tmp_path / "minute", Recipe(ticks=tuple(range(600)), clock=10, size=(128, 72), options=options))
    hour = repeat(tmp_path / "hour", minute, 60)

    of_a_minute, of_an_hour = measured(minute.path), measured(hour)

    assert (of_a_minute["windows"], of_an_hour["windows"]) == (6, 360)
    assert of_an_hour["peak_kib"] <= 1.2 * of_a_minute["peak_kib"]
    assert of_an_hour["first"] <= of_an_hour["whole"] / 10
    print(json.dumps({"minute": of_a_minute, "hour": of_an_hour}))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 30,000 frames, whose index is too large to come with the plan."""
    folder = tmp_path_factory.mktemp("clips")
    options = {"g": "50", "preset": "ultrafast", "crf": "35", "bf": "2"}
    part = make(folder / "part", Recipe(frames=300, size=(128, 72), options=options))
    return repeat(folder / "long", part, 100)


async def until_it_waits(sampler: Sampler) -> None:
    async with asyncio.timeout(120):
        while not sampler.index_budget._waiting:
            await asyncio.sleep(0.01)


async def test_an_index_is_reserved_for_as_long_as_its_clip_is_in_flight(long_clip: Path) -> None:
    async with running() as sampler:
        plan = await sampler.plan(clip_of(long_clip), WindowPolicy(), FramePolicy())
        held_bytes, session = sampler.index_budget.held_bytes, plan.session
        plan.close()
        plan.close()

        assert len(plan.pts_ns) == 30_000
        assert held_bytes == len(session.index) + TIMES_BYTES * 30_000 <= 13 * 30_000
        assert len(session.index) > MAX_SMALL_INDEX_BYTES
        assert sampler.index_budget.held_bytes == 0


async def test_an_index_that_never_fits_is_refused(tmp_path: Path, long_clip: Path) -> None:
    async with running(in_flight_bytes=8 * 200_000) as sampler:
        refused = await sample(sampler, long_clip)
        fits = await sample(sampler, make(tmp_path / "short", Recipe(frames=25)).path)

        assert refused.reason == Reason.OVER_BUDGET
        assert "200,000 of limits.in_flight_bytes are there for indices" in str(refused.fault)
        assert fits.fault is None
        assert sampler.index_budget.held_bytes == 0


async def test_while_an_index_waits_for_room_other_clips_are_decoded(tmp_path: Path, long_clip: Path) -> None:
    short = make(tmp_path / "short", Recipe(frames=100))
    async with running(decoders=1) as sampler:
        plan = await sampler.plan(clip_of(short.path), WindowPolicy(NS_PER_S, NS_PER_S, 0), FramePolicy())
        room_bytes = sampler.index_budget.limit_bytes - sampler.index_budget.held_bytes - 1000
        await sampler.index_budget.reserve(room_bytes)
        waiting = asyncio.create_task(sample(sampler, long_clip, WindowPolicy(600 * NS_PER_S, 600 * NS_PER_S, 0)))
        await until_it_waits(sampler)

        windows = [window async for window in sampler.frame_sets(plan)]

        assert not waiting.done()
        for window in windows:
            sampler.release(window)  # type: ignore[arg-type]
        plan.close()
        sampler.index_budget.release(room_bytes)
        outcome = await waiting
        assert (len(windows), outcome.fault, len(outcome.windows)) == (4, None, 2)
        assert sampler.index_budget.held_bytes == 0


async def test_a_child_that_dies_before_its_index_is_read_is_transient(long_clip: Path) -> None:
    async with running(decoders=1) as sampler:
        limit_bytes = sampler.index_budget.limit_bytes
        await sampler.index_budget.reserve(limit_bytes)
        waiting = asyncio.create_task(sampler.plan(clip_of(long_clip), WindowPolicy(), FramePolicy()))
        await until_it_waits(sampler)
        os.kill(sampler.pool.pids[0], signal.SIGKILL)
        async with asyncio.timeout(120):
            while sampler.pool.pids:
                await asyncio.sleep(0.01)
        sampler.index_budget.release(limit_bytes)

        with pytest.raises(Transient) as caught:
            await waiting

        assert caught.value.reason == Reason.DECODER_DIED
        assert sampler.index_budget.held_bytes == 0
        assert (await sample(sampler, long_clip, WindowPolicy(600 * NS_PER_S, 600 * NS_PER_S, 0))).fault is None


async def test_a_clip_that_is_given_up_while_its_index_waits_leaves_nothing(long_clip: Path) -> None:
    async with running(decoders=1) as sampler:
        limit_bytes = sampler.index_budget.limit_bytes
        await sampler.index_budget.reserve(limit_bytes)
        waiting = asyncio.create_task(sampler.plan(clip_of(long_clip), WindowPolicy(), FramePolicy()))
        await until_it_waits(sampler)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert not sampler.index_budget._waiting
        assert sampler.index_budget.held_bytes == limit_bytes
