"""Every way a clip can end, through the real sampler, with connectors in memory and an engine of scripted faults."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.contract import CaptionStatus, Clip
from connectors.errors import EngineLost
from connectors.folder.route import FolderRoute
from connectors.memory import BlockingSink, MemoryInbox, MemorySink, MemorySource, RecordingSink
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.slots import PUBLISHING
from daemon.telemetry.metrics import Metrics
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from testing.load import WINDOWS_EACH, write_load_clip
from tests.corpus.broken import cut, damaged
from tests.corpus.clips import Recipe

SECONDS = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2), FramePolicy(num_frames=2), Prompt("Describe."))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "six.mp4"
    write_load_clip(path)
    return path.read_bytes()


@contextlib.asynccontextmanager
async def house(
    inbox: MemoryInbox,
    sink: RecordingSink,
    script: FaultScript | None = None,
    *,
    once: bool = True,
    delay_ms: float = 0.0,
    deadline_s: float = 20.0,
    settings: ClipSettings = SECONDS,
    clips: int = 8,
    engine_class: type[FakeEngine] = FakeEngine,
    rendered_bytes: int | None = None,
) -> AsyncIterator[tuple[Pipeline, FakeEngine]]:
    """Build a pipeline over one source."""
    fake = engine_class(delay_ms=delay_ms, slots=16, script=script)
    engine = GuardedEngine(fake, deadline_s, 60.0)
    sampler = Sampler(LimitsSettings(decoders=1, rendered_bytes=rendered_bytes), TimeoutsSettings())
    route = FolderRoute(MemorySource("memory", inbox, once=once), sink)
    await sampler.start()
    await engine.start()

    def choose(clip: Clip) -> ClipSettings:
        text = clip.attributes.get("prompt")
        return settings.asked(text) if text else settings

    try:
        yield (
            Pipeline([route], sampler, engine, choose, max_clips_in_flight=clips, max_attempts=2, metrics=Metrics()),
            fake,
        )
        assert sampler.budget.held_bytes == 0
    finally:
        await route.close()
        await engine.close()
        await sampler.close()


def windows(sink: MemorySink) -> dict[str, list[int]]:
    return {clip_id: [one.window.index for one in captions] for clip_id, captions in sink.captions.items()}


async def test_every_window_is_captioned_in_order(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(5):
        inbox.put(f"clip{number}", video)

    async with house(inbox, sink, FaultScript(reverse_by=4)) as (pipeline, _):
        await pipeline.run()

    assert list(windows(sink).values()) == [list(range(WINDOWS_EACH))] * 5
    assert inbox.unfinished == []


async def test_a_clip_may_bring_its_own_question(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("plain", video)
    inbox.put("asked", video, prompt="What moves?")

    async with house(inbox, sink) as (pipeline, _):
        await pipeline.run()

    hashes = {captions[0].prompt_hash for captions in sink.captions.values()}
    assert len(hashes) == 2


async def test_empty_and_cut_off_answers_say_so(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("clip", video)

    async with house(inbox, sink, FaultScript(empty=("/0/",), cut_off=("/1/",))) as (pipeline, _):
        await pipeline.run()

    (captions,) = sink.captions.values()
    assert [one.status for one in captions[:3]] == [
        CaptionStatus.EMPTY,
        CaptionStatus.TRUNCATED,
        CaptionStatus.SUCCESS,
    ]


async def test_a_request_that_never_returns_costs_its_clip_alone(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("stuck", video, prompt="stuck")
    inbox.put("fine", video)
    stuck = next(iter([d async for d in MemorySource("memory", inbox, once=True).deliveries()])).clip.clip_id

    async with house(inbox, sink, FaultScript(never_returns=(f"{stuck}/3/",)), deadline_s=0.4) as (pipeline, _):
        await pipeline.run()

    assert windows(sink)[stuck] == [0, 1, 2]
    assert sink.rejections[stuck].reason == "engine_deadline"
    assert sink.rejections[stuck].attempts == 2
    assert inbox.unfinished == []
    assert sorted(map(len, windows(sink).values())) == [3, WINDOWS_EACH]


async def test_a_cut_clip_has_captions_and_then_a_rejection(tmp_path: Path) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("cut", cut(tmp_path / "cut", 0.5).read_bytes())

    async with house(inbox, sink) as (pipeline, _):
        await pipeline.run()

    (captions,), (rejection,) = windows(sink).values(), sink.rejections.values()
    assert captions == list(range(len(captions)))
    assert len(captions) >= 8
    assert rejection.reason == "truncated"


async def test_a_window_that_cannot_be_read_leaves_no_hole(tmp_path: Path) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    recipe = Recipe(frames=250, options={"g": "25", "bf": "0"})
    inbox.put("damaged", damaged(tmp_path / "damaged", 0.3, 0.7, recipe).path.read_bytes())

    async with house(inbox, sink) as (pipeline, _):
        await pipeline.run()

    (captions,) = sink.captions.values()
    statuses = [one.status for one in captions]
    assert [one.window.index for one in captions] == list(range(10))
    assert statuses[0] == statuses[-1] == CaptionStatus.SUCCESS
    assert CaptionStatus.ERROR in statuses
    assert sink.rejections == {}


async def test_a_drain_finishes_windows_not_clips(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(20):
        inbox.put(f"clip{number}", video)

    async with house(inbox, sink, once=False, delay_ms=60) as (pipeline, _):
        work = asyncio.create_task(pipeline.run())
        while not sink.captions:
            await asyncio.sleep(0.01)
        await pipeline.drain()
        await work

    captioned = {clip_id: indices for clip_id, indices in windows(sink).items() if indices}
    assert inbox.unfinished
    assert all(indices == list(range(len(indices))) for indices in captioned.values())

    async with house(inbox, sink) as (pipeline, fake):
        await pipeline.run()

    redone = {request.rsplit("/", 1)[0] for request in fake.requests}
    before = {f"{clip_id}/{index}" for clip_id, indices in captioned.items() for index in indices}
    assert redone.isdisjoint(before)
    assert list(windows(sink).values()) == [list(range(WINDOWS_EACH))] * 20


async def test_another_plan_starts_the_clip_again(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("clip", video)
    blocked = BlockingSink(sink)
    async with house(inbox, blocked, once=False) as (pipeline, _):
        work = asyncio.create_task(pipeline.run())
        blocked.release()
        while not sink.captions:
            await asyncio.sleep(0.01)
        await pipeline.drain()
        await asyncio.gather(work, return_exceptions=True)
    first = next(iter(sink.captions.values()))[0].plan_hash
    inbox.put("clip", video)
    longer = ClipSettings(WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, NS_PER_S), SECONDS.frames, SECONDS.prompt)

    async with house(inbox, sink, settings=longer) as (pipeline, _):
        await pipeline.run()

    (captions,) = sink.captions.values()
    assert [one.window.index for one in captions] == [0, 1, 2]
    assert {one.plan_hash for one in captions} != {first}


async def test_a_question_that_is_refused_ends_its_clip_and_not_the_program(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("plain", video)
    inbox.put("asked", video, prompt="x" * 33_000)

    async with house(inbox, sink) as (pipeline, _):
        await pipeline.run()

    assert [one.reason for one in sink.rejections.values()] == ["prompt"]
    assert inbox.unfinished == []
    assert sorted(map(len, sink.captions.values())) == [0, WINDOWS_EACH]


async def test_a_clip_that_kills_engines_is_found_and_its_neighbours_are_not_harmed(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for name in ("a", "killer", "b", "c"):
        inbox.put(name, video, **({"prompt": "kill"} if name == "killer" else {}))
    deliveries = [one async for one in MemorySource("memory", inbox, once=True).deliveries()]
    killer = next(one.clip.clip_id for one in deliveries if one.clip.media.name == "killer")

    deaths = 0
    for _ in range(6):
        async with house(inbox, sink, FaultScript(kills=(killer,)), delay_ms=5) as (pipeline, _):
            try:
                await pipeline.run()
                break
            except* EngineLost:
                deaths += 1
                await pipeline.in_flight.quarantine()

    assert deaths == 2
    assert sink.rejections[killer].reason == "engine_killer"
    assert inbox.unfinished == []
    others = {clip_id: indices for clip_id, indices in windows(sink).items() if clip_id != killer}
    assert list(others.values()) == [list(range(WINDOWS_EACH))] * 3


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
