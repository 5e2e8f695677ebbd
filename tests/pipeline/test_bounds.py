"""What the main loop holds at once: clips, frames and rendered windows, each within its bound."""

import asyncio

from connectors.memory import BlockingSink, MemoryInbox, MemorySink
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.prompts.prompt import Prompt
from daemon.slots import PUBLISHING
from daemon.windows import FrameSet
from testing.load import WINDOWS_EACH
from tests.pipeline.in_memory import house, windows


async def test_a_full_pipeline_asks_for_no_more(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(30):
        inbox.put(f"clip{number}", video)
    blocked = BlockingSink(sink)

    async with house(inbox, blocked, clips=3) as (pipeline, fake):
        work = asyncio.create_task(pipeline.run())
        while len(fake.requests) < 3 * WINDOWS_EACH:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        in_flight = pipeline.slots.in_flight
        asked = len(fake.requests)
        blocked.release()
        await work

    assert in_flight == 3
    assert asked <= (1 + PUBLISHING) * 3 * WINDOWS_EACH  # those that only wait for the sink have lent their slots
    assert inbox.unfinished == []


async def test_frames_are_given_back_when_they_are_rendered_and_not_when_they_are_answered(video: bytes) -> None:
    """Every window is in the model and none is answered: no frame is held, neither by the budget nor in memory."""
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("slow", video)
    held: list[FrameSet] = []

    class Keeping(FakeEngine):
        async def describe(
            self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
        ) -> Completion:
            held.append(frames)

            async def larger(size_bytes: int) -> None:
                await rendered(1000)

            return await super().describe(frames, prompt, request_id, larger)

    async with house(inbox, sink, FaultScript(hang_at_request=1), engine_class=Keeping) as (pipeline, fake):
        running = asyncio.create_task(pipeline.run())
        async with asyncio.timeout(60):
            while len(fake.requests) < WINDOWS_EACH or pipeline.sampler.budget.held_bytes:
                await asyncio.sleep(0.01)

        assert pipeline.sampler.budget.held_bytes == 0
        assert pipeline.sampler.rendered_budget.held_bytes == WINDOWS_EACH * 1000
        assert [one.frames.strides for one in held] == [(0, 0, 0, 0)] * WINDOWS_EACH
        assert [one.memory_file for one in held] == [-1] * WINDOWS_EACH

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert pipeline.sampler.rendered_budget.held_bytes == 0


async def test_rendered_windows_wait_for_answers_alone(video: bytes) -> None:
    """Each window takes all the bytes for rendered ones, so they go one at a time, and all get through."""
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(3):
        inbox.put(f"clip{number}", video)

    class Large(FakeEngine):
        async def describe(
            self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
        ) -> Completion:
            async def larger(size_bytes: int) -> None:
                await rendered(2**20)

            return await super().describe(frames, prompt, request_id, larger)

    async with house(inbox, sink, engine_class=Large, rendered_bytes=2**19, delay_ms=1.0) as (pipeline, _):
        await pipeline.run()

        assert list(windows(sink).values()) == [list(range(WINDOWS_EACH))] * 3
        assert pipeline.sampler.rendered_budget.held_bytes == 0
