"""The guard: deadlines, stalls and death, over fakes with the fault in their name."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.errors import EngineLost, Reason, Transient
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?")
WINDOW = noise(1, 2, 2)


class SteppingEngine(FakeEngine):
    """Answers nothing for a while, but reports steps: a long request on a slow machine."""

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        await rendered(0)
        for _ in range(30):
            await asyncio.sleep(0.02)
            self.progress += 1
        return await super().describe(frames, prompt, request_id)


class StubbornEngine(FakeEngine):
    """Does not let go of an aborted request."""

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        await rendered(0)
        while not self._dead.is_set():
            try:
                await self._dead.wait()
            except asyncio.CancelledError:
                continue
        raise EngineLost("closed")


class QueueingEngine(FakeEngine):
    """Renders one window after the other before the model gets it."""

    def __init__(self, render_s: float) -> None:
        super().__init__()
        self._renderer, self._render_s = asyncio.Lock(), render_s

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        async with self._renderer:
            await asyncio.sleep(self._render_s)
        return await super().describe(frames, prompt, request_id, rendered)


@contextlib.asynccontextmanager
async def busy(guard: GuardedEngine) -> AsyncIterator[None]:
    """Ask about other windows all the time."""

    async def ask() -> None:
        for number in itertools.count():
            await guard.describe(WINDOW, ASK, f"other/0/{number}")
            await asyncio.sleep(0.005)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def guarded(engine: FakeEngine, *, deadline_s: float = 10.0, stall_s: float = 10.0) -> GuardedEngine:
    guard = GuardedEngine(engine, deadline_s, stall_s)
    await guard.start()
    return guard


async def test_an_answer_passes_through() -> None:
    guard = await guarded(FakeEngine())

    done = await guard.describe(WINDOW, ASK, "a/0/0")

    assert done.text
    assert (guard.model_id, guard.slots, guard.progress, guard.in_flight) == ("fake", 64, 1, 0)
    await guard.close()


async def test_a_request_past_its_deadline_is_aborted_and_may_be_tried_again() -> None:
    fake = FakeEngine(script=FaultScript(never_returns=("lost",)))
    guard = await guarded(fake, deadline_s=0.05)

    async with busy(guard):
        with pytest.raises(Transient) as late:
            await guard.describe(WINDOW, ASK, "lost/0/0")

    assert late.value.reason == Reason.ENGINE_DEADLINE
    assert fake.aborted == ["lost/0/0"]
    assert (await guard.describe(WINDOW, ASK, "other/0/1")).text
    await guard.close()


async def test_a_request_that_does_not_let_go_is_left_behind() -> None:
    engine = StubbornEngine()
    guard = await guarded(engine, deadline_s=0.05)
    late = asyncio.create_task(guard.describe(WINDOW, ASK, "a/0/0"))
    while not late.done():
        engine.progress += 1
        await asyncio.sleep(0.005)

    with pytest.raises(Transient):
        await late

    assert guard.in_flight == 0
    await guard.close()


async def test_who_was_answered_too_late_is_not_cancelled_any_more() -> None:
    fake = FakeEngine(script=FaultScript(never_returns=("lost",)))
    guard = await guarded(fake, deadline_s=0.05)

    async def ask_twice() -> str:
        with contextlib.suppress(Transient):
            await guard.describe(WINDOW, ASK, "lost/0/0")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return (await guard.describe(WINDOW, ASK, "a/0/1")).text

    async with busy(guard):
        assert await asyncio.create_task(ask_twice())
    await guard.close()


async def test_the_deadline_begins_when_the_model_has_the_request() -> None:
    """The last window waits for its rendering ten times as long as the model may take to answer."""
    engine = QueueingEngine(render_s=0.05)
    guard = await guarded(engine, deadline_s=0.1)

    done = await asyncio.gather(*(guard.describe(WINDOW, ASK, f"a/{i}/{i}") for i in range(20)))

    assert len(done) == 20
    await guard.close()


async def test_the_wait_for_rendering_is_no_stall_and_ends_with_the_engine() -> None:
    engine = QueueingEngine(render_s=10_000.0)
    guard = await guarded(engine, deadline_s=0.05, stall_s=0.1)
    waiting = asyncio.create_task(guard.describe(WINDOW, ASK, "a/0/0"))

    await asyncio.sleep(0.5)

    assert not waiting.done()
    assert guard.in_flight == 0
    engine._dead.set()
    with pytest.raises(EngineLost):
        await waiting
    await guard.close()


async def test_cancelling_aborts_in_the_engine() -> None:
    fake = FakeEngine(delay_ms=10_000)
    guard = await guarded(fake)
    request = asyncio.create_task(guard.describe(WINDOW, ASK, "a/0/0"))
    await asyncio.sleep(0.01)

    request.cancel()
    await asyncio.gather(request, return_exceptions=True)

    assert request.cancelled()
    assert fake.aborted == ["a/0/0"]
    assert guard.in_flight == 0
    await guard.close()


async def test_no_progress_is_a_dead_engine(tmp_path: Path) -> None:
    fake = FakeEngine(script=FaultScript(hang_at_request=1))
    with (tmp_path / "stacks").open("w+") as stacks:
        guard = GuardedEngine(fake, 60.0, 0.3, dump_to=stacks)
        await guard.start()
        pending = [asyncio.create_task(guard.describe(WINDOW, ASK, f"a/{i}/{i}")) for i in range(3)]
        begun_s = asyncio.get_running_loop().time()

        with pytest.raises(EngineLost, match=r"no progress for 0\.3 s with 3 requests in flight"):
            await guard.wait_dead()

        assert asyncio.get_running_loop().time() - begun_s > 0.25
        results = await asyncio.gather(*pending, return_exceptions=True)
        stacks.seek(0)
        dump = stacks.read()
    assert [type(result) for result in results] == [EngineLost] * 3
    assert "most recent call first" in dump
    assert "describe" in dump
    await guard.close()


async def test_the_engines_own_steps_are_progress() -> None:
    guard = await guarded(SteppingEngine(), stall_s=0.2)

    assert (await guard.describe(WINDOW, ASK, "a/0/0")).text
    await guard.close()


async def test_time_without_requests_is_no_stall() -> None:
    guard = await guarded(FakeEngine(), stall_s=0.1)

    await asyncio.sleep(0.4)

    assert (await guard.describe(WINDOW, ASK, "a/0/0")).text
    await guard.close()


async def test_a_hanging_engine_makes_no_request_late() -> None:
    """Deadlines that pass while nothing moves at all are the engine's fault: no clip's attempts are used up by them."""
    guard = await guarded(FakeEngine(script=FaultScript(hang_at_request=1)), deadline_s=0.05, stall_s=0.4)

    ends = await asyncio.gather(*(guard.describe(WINDOW, ASK, f"a/{i}/{i}") for i in range(4)), return_exceptions=True)

    assert [type(end) for end in ends] == [EngineLost] * 4
    await guard.close()


async def test_a_request_that_is_alone_and_never_returns_is_a_stall() -> None:
    guard = await guarded(FakeEngine(script=FaultScript(never_returns=("lost",))), deadline_s=0.05, stall_s=0.3)

    with pytest.raises(EngineLost, match="no progress"):
        await guard.describe(WINDOW, ASK, "lost/0/0")
    await guard.close()


async def test_aborted_requests_do_not_hide_a_stall() -> None:
    """Requests that come and go, each given up by its clip before its deadline, are no progress."""
    guard = await guarded(FakeEngine(script=FaultScript(hang_at_request=1)), stall_s=0.3)
    lost = asyncio.create_task(guard.wait_dead())

    while not lost.done():
        with contextlib.suppress(TimeoutError, EngineLost):
            await asyncio.wait_for(guard.describe(WINDOW, ASK, "a/0/0"), 0.05)

    with pytest.raises(EngineLost):
        await lost
    await guard.close()


async def test_time_in_which_the_process_did_not_run_is_no_stall() -> None:
    guard = await guarded(FakeEngine(delay_ms=400), stall_s=0.5)
    request = asyncio.create_task(guard.describe(WINDOW, ASK, "a/0/0"))
    await asyncio.sleep(0.05)

    time.sleep(1.0)  # what SIGSTOP, or a machine that is too busy, looks like from here  # noqa: ASYNC251

    assert (await request).text
    await guard.close()


async def test_a_dead_engine_ends_everything() -> None:
    fake = FakeEngine(delay_ms=10_000, script=FaultScript(kills=("killer",)))
    guard = await guarded(fake)
    pending = asyncio.create_task(guard.describe(WINDOW, ASK, "held/0/0"))
    await asyncio.sleep(0.01)

    with pytest.raises(EngineLost):
        await guard.describe(WINDOW, ASK, "killer/0/1")
    with pytest.raises(EngineLost):
        await pending
    with pytest.raises(EngineLost):
        await guard.wait_dead()
    with pytest.raises(EngineLost):
        await guard.describe(WINDOW, ASK, "later/0/2")
    await guard.close()


async def test_closing_ends_what_waits() -> None:
    guard = await guarded(FakeEngine(delay_ms=10_000))
    pending = asyncio.create_task(guard.describe(WINDOW, ASK, "a/0/0"))
    await asyncio.sleep(0.01)

    await guard.close()

    with pytest.raises(EngineLost):
        await pending
    await guard.close()
