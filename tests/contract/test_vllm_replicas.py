"""Two replicas of the bundled model in the real vLLM: shared work, statistics of each, and one that hangs."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from connectors.errors import EngineLost
from daemon.engines.contract import EngineStatistics
from daemon.engines.guard import GuardedEngine
from daemon.engines.vllm import library
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.output import StepLogger
from daemon.engines.vllm.reaper import marked_processes
from daemon.prompts.prompt import Prompt
from tests.contract.vllm_engines import MARKS, running
from tests.windows_of_noise import noise

pytestmark = [*MARKS, pytest.mark.thorough]

ASK = Prompt("Describe this video.", max_tokens=24, min_tokens=24)
WINDOW = noise(2, 56, 56)
STALL_S = 5.0
LONG_S = 240.0  # for what takes a second on an idle machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    async with running(Path(neva.__file__).parent / "bundled", data_parallel_size=2) as one:
        yield one


async def test_slots_are_those_of_both(engine: VllmEngine) -> None:
    assert engine.slots == 2 * 4 * 2
    assert library.replicas(engine._llm) == [0, 1]


async def test_each_has_answered_before_the_engine_is_ready(engine: VllmEngine) -> None:
    assert min(one.steps for one in engine.statistics.replicas.values()) > 0


async def test_both_work_and_each_has_its_own_statistics(engine: VllmEngine) -> None:
    before = {number: one.steps for number, one in engine.statistics.replicas.items()}

    asked = [asyncio.create_task(engine.describe(WINDOW, ASK, f"clip/{n}/0")) for n in range(16)]
    held = [0, 0]
    while not all(one.done() for one in asked):
        now = engine.statistics.held()
        held = [max(held[number], now[number]) for number in (0, 1)]
        await asyncio.sleep(0.01)
    answers = await asyncio.gather(*asked)

    assert len({one.text for one in answers}) == 1
    assert min(held) > 0
    statistics = engine.statistics
    assert all(statistics.replicas[number].steps > steps for number, steps in before.items())
    assert statistics.steps == sum(one.steps for one in statistics.replicas.values())
    async with asyncio.timeout(LONG_S):
        while any(statistics.held().values()):  # their last word comes after the answers
            await asyncio.sleep(0.01)
    assert (statistics.running, statistics.waiting) == (0, 0)


async def test_an_aborted_request_is_let_go_by_its_replica(engine: VllmEngine) -> None:
    endless = Prompt("Describe this video.", max_tokens=600, min_tokens=600)
    asked = [asyncio.create_task(engine.describe(WINDOW, endless, f"clip/{n}/0")) for n in range(4)]
    async with asyncio.timeout(LONG_S):
        while sum(engine.statistics.held().values()) < len(asked):
            await asyncio.sleep(0.01)

        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

        while any(engine.statistics.held().values()):
            await asyncio.sleep(0.01)


def test_the_records_of_vllm_are_kept_apart_by_its_own_manager(engine: VllmEngine) -> None:
    from vllm.v1.metrics.loggers import PerEngineStatLoggerAdapter
    from vllm.v1.metrics.stats import SchedulerStats

    statistics = EngineStatistics()
    manager = PerEngineStatLoggerAdapter(engine._llm.vllm_config, [0, 1], StepLogger(statistics))  # type: ignore[arg-type]
    first = SchedulerStats(num_running_reqs=3, num_waiting_reqs=1, num_skipped_waiting_reqs=1, kv_cache_usage=0.5)
    second = SchedulerStats(num_running_reqs=2, kv_cache_usage=0.25)

    manager.record(first, None, engine_idx=0)
    manager.record(second, None, engine_idx=1)
    manager.record(None, None, engine_idx=1)

    assert [one.steps for one in statistics.replicas.values()] == [1, 2]
    assert (statistics.steps, statistics.running, statistics.waiting) == (3, 5, 2)
    assert statistics.kv_cache_usage == 0.375
    assert statistics.held() == {0: 5, 1: 2}


async def test_one_that_hangs_is_seen_beside_one_that_works(engine: VllmEngine, tmp_path: Path) -> None:
    (core,) = [one for one in marked_processes(engine._reaper.mark) if _title(one).startswith("VLLM::EngineCore_DP1")]

    async def ask() -> None:
        for number in itertools.count():
            await guard.describe(WINDOW, ASK, f"busy/{number}/0")

    with (tmp_path / "stacks").open("w") as stacks:
        guard = GuardedEngine(engine, LONG_S, STALL_S, dump_to=stacks)
        guard.watch()
        asking = [asyncio.create_task(ask()) for _ in range(engine.slots)]
        os.kill(core, signal.SIGSTOP)
        seen = engine.statistics.replicas[0].steps
        try:
            with pytest.raises(EngineLost, match=r"no progress of replica 1 \(of 2, from 0; it holds \d+ requests\)"):
                await asyncio.wait_for(guard.wait_dead(), LONG_S)
        finally:
            os.kill(core, signal.SIGCONT)
            ends = await asyncio.gather(*asking, return_exceptions=True)
    assert engine.statistics.replicas[0].steps > seen
    assert {type(end) for end in ends} == {EngineLost}


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
