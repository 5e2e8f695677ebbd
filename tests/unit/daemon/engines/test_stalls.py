"""The clocks of replicas: one that hangs is seen beside those that work, and having nothing to do is no fault."""

import asyncio
from pathlib import Path

import pytest

from connectors.errors import EngineLost, Reason, Transient
from daemon.engines.contract import Completion, EngineStatistics, Rendered, ReplicaStatistics, unheeded
from daemon.engines.fake import FakeEngine
from daemon.engines.guard import GuardedEngine
from daemon.engines.stalls import ReplicaStalls
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?")
WINDOW = noise(1, 2, 2)


class ReplicatedEngine(FakeEngine):
    """Answers from replica 0 and counts its steps; what is asked of replica 1 hangs there."""

    def __init__(self, replicas: int = 2) -> None:
        super().__init__()
        self.given = dict.fromkeys(range(replicas), 0)
        self.statistics: EngineStatistics = EngineStatistics(  # type: ignore[assignment]
            replicas={number: ReplicaStatistics() for number in self.given}, handed_over=lambda: self.given
        )

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        if request_id.startswith("hangs"):
            await rendered(0)
            self.given[1] += 1
            await asyncio.Event().wait()
        done = await super().describe(frames, prompt, request_id, rendered)
        self.statistics.replicas[0].steps += 1
        return done


def test_a_replica_with_requests_and_without_steps_stands_still() -> None:
    engine = ReplicatedEngine(replicas=8)
    stalls = ReplicaStalls(engine)
    engine.given.update({0: 2, 3: 4})

    for _ in range(10):
        engine.statistics.replicas[0].steps += 1
        stalls.look(1.0)

    assert stalls.longest_s == 9.0  # the first look only learns the steps
    assert stalls.over(9.5) == ""
    assert stalls.over(9.0) == "replica 3 (of 8, from 0; it holds 4 requests)"


def test_what_a_replica_last_said_counts_where_no_table_says_more() -> None:
    engine = ReplicatedEngine()
    stalls = ReplicaStalls(engine)
    engine.statistics.handed_over = dict
    engine.statistics.replicas[1] = ReplicaStatistics(steps=5, running=1, waiting=2)

    stalls.look(1.0)
    stalls.look(1.0)

    assert stalls.over(1.0) == "replica 1 (of 2, from 0; it holds 3 requests)"


@pytest.mark.parametrize("ends", ["a step", "no requests"])
def test_a_clock_begins_again(ends: str) -> None:
    engine = ReplicatedEngine()
    stalls = ReplicaStalls(engine)
    engine.given[1] = 1
    for _ in range(5):
        stalls.look(1.0)

    if ends == "a step":
        engine.statistics.replicas[1].steps += 1
    else:
        engine.given[1] = 0
    stalls.look(1.0)

    assert stalls.longest_s == 0.0


def test_a_replica_without_requests_never_stands_still() -> None:
    engine = ReplicatedEngine()
    stalls = ReplicaStalls(engine)

    for _ in range(1000):
        engine.statistics.replicas[0].steps += 1
        stalls.look(1.0)

    assert stalls.longest_s == 0.0


def test_an_engine_of_one_replica_is_left_to_its_own_progress() -> None:
    engine = ReplicatedEngine(replicas=1)
    stalls = ReplicaStalls(engine)
    engine.given[0] = 1

    for _ in range(10):
        stalls.look(1.0)

    assert (stalls.longest_s, stalls.over(1.0)) == (0.0, "")


@pytest.mark.parametrize("deadline_s", [0.2, 60.0])
async def test_one_that_hangs_is_a_dead_engine_whatever_the_others_do(deadline_s: float, tmp_path: Path) -> None:
    """Nor does a deadline pass meanwhile: its requests would be tried again, and counted against their clips."""
    engine = ReplicatedEngine()

    async def ask() -> None:
        while True:
            await guard.describe(WINDOW, ASK, "works/0/0")
            await asyncio.sleep(0.005)

    with (tmp_path / "stacks").open("w") as stacks:
        guard = GuardedEngine(engine, deadline_s, 0.5, dump_to=stacks)
        await guard.start()
        hanging = [asyncio.create_task(guard.describe(WINDOW, ASK, f"hangs/{number}/0")) for number in range(3)]
        working = asyncio.create_task(ask())

        with pytest.raises(EngineLost, match=r"no progress of replica 1 \(of 2, .* 3 requests\) for 0\.5 s"):
            await asyncio.wait_for(guard.wait_dead(), 60)

        ends = await asyncio.gather(working, *hanging, return_exceptions=True)
    assert {type(end) for end in ends} == {EngineLost}
    await guard.close()


async def test_a_request_that_is_lost_in_replicas_that_work_has_its_deadline() -> None:
    engine = ReplicatedEngine()
    guard = GuardedEngine(engine, 0.2, 60.0)
    await guard.start()

    async def step() -> None:
        while True:
            for replica in engine.statistics.replicas.values():
                replica.steps += 1
            engine.progress += 1
            await asyncio.sleep(0.005)

    stepping = asyncio.create_task(step())

    with pytest.raises(Transient) as late:
        await asyncio.wait_for(guard.describe(WINDOW, ASK, "hangs/0/0"), 60)

    assert late.value.reason == Reason.ENGINE_DEADLINE
    stepping.cancel()
    await guard.close()
