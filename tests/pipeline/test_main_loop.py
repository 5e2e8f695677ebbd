"""Every way a clip can end, through the real sampler, with connectors in memory and an engine of scripted faults."""

import asyncio
from pathlib import Path

from connectors.contract import CaptionStatus
from connectors.errors import EngineLost
from connectors.memory import BlockingSink, MemoryInbox, MemorySink, MemorySource
from daemon.config.clip_settings import ClipSettings
from daemon.engines.fake import FaultScript
from daemon.windows import NS_PER_S, WindowPolicy
from testing.load import WINDOWS_EACH
from tests.corpus.broken import cut, damaged
from tests.corpus.clips import Recipe
from tests.pipeline.in_memory import SECONDS, house, windows


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
