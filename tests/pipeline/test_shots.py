"""Clips whose windows follow their shots, through the main loop: nobody knows how many there will be."""

import asyncio
from pathlib import Path

import pytest

from connectors.memory import MemoryInbox, MemorySink
from daemon.config.clip_settings import ClipSettings
from daemon.content.shots import shot_detector
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FramePolicy, ShotPolicy, WindowPolicy
from testing.spliced_clips import splice
from tests.corpus.broken import cut
from tests.pipeline.in_memory import house

pytest.importorskip("scenedetect")

SHOTS = ClipSettings(
    WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, 0, shots=ShotPolicy(NS_PER_S // 2, 0.5, shot_detector())),
    FramePolicy(num_frames=2),
    Prompt("Describe."),
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return splice(tmp_path_factory.mktemp("clips") / "clip.mp4", 11, shots=3).path.read_bytes()


def spans(sink: MemorySink) -> list[tuple[int, int, int]]:
    (captions,) = sink.captions.values()
    return [(one.window.index, one.window.start_ns, one.window.exclusive_end_ns) for one in captions]


async def test_a_clip_that_is_stopped_goes_on_with_the_same_shots(video: bytes) -> None:
    whole, stopped = MemorySink(), MemorySink()
    for sink in (whole, stopped):
        inbox = MemoryInbox()
        inbox.put("clip", video)
        if sink is stopped:
            async with house(inbox, sink, once=False, delay_ms=30, settings=SHOTS) as (pipeline, _):
                work = asyncio.create_task(pipeline.run())
                while not sink.captions:
                    await asyncio.sleep(0.01)
                await pipeline.drain()
                await work
            assert inbox.unfinished
        async with house(inbox, sink, settings=SHOTS) as (pipeline, _):
            await pipeline.run()
        assert inbox.unfinished == []

    assert spans(stopped) == spans(whole)
    assert len(spans(whole)) > 3
    assert [index for index, _, _ in spans(whole)] == list(range(len(spans(whole))))


async def test_a_cut_clip_has_its_whole_shots_and_then_a_rejection(tmp_path: Path) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("cut", cut(tmp_path / "cut", 0.5).read_bytes())

    async with house(inbox, sink, settings=SHOTS) as (pipeline, _):
        await pipeline.run()

    ((clip_id, captions),) = sink.captions.items()
    assert [one.window.index for one in captions] == list(range(len(captions)))
    assert sink.rejections[clip_id].reason == "truncated"
    assert captions
