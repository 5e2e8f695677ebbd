"""A camera that stands still: windows that show nothing new are not asked about, and what moves is described."""

import asyncio

import av
import numpy as np
import pytest

from connectors.contract import Caption, CaptionStatus
from connectors.memory import MemoryInbox, MemorySink
from daemon.config.clip_settings import ClipSettings
from daemon.content.spans import UnchangedPolicy
from daemon.engines.fake import FaultScript
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy
from tests.pipeline.in_memory import house

RATE, MINUTES, WIDTH, HEIGHT = 2, 10, 160, 96
SPELLS = ((41, 47), (150, 163), (222, 225), (377, 390), (555, 561))  # seconds in which a small thing moves
WINDOW_S = 5
WATCHED = ClipSettings(
    WindowPolicy(WINDOW_S * NS_PER_S, WINDOW_S * NS_PER_S, 0),
    FramePolicy(num_frames=5),
    Prompt("Describe."),
    unchanged=UnchangedPolicy(4.0, 300 * NS_PER_S),
)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten minutes of a yard, with grain, and a thing of 8 x 8 pixels that crosses it five times."""
    path, draw = tmp_path_factory.mktemp("clips") / "camera.mp4", np.random.default_rng(5)
    yard = np.repeat(np.repeat(draw.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3)), 8, 0), 8, 1)
    grain = draw.normal(0, 3, (7, HEIGHT, WIDTH, 1))
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for at in range(MINUTES * 60 * RATE):
            picture = (yard + grain[at % 7]).clip(0, 255).astype(np.uint8)
            if any(start <= at / RATE < end for start, end in SPELLS):
                left = at * 7 % (WIDTH - 8)
                picture[40:48, left : left + 8] = (255, 255, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


async def captions_of(video: bytes, script: FaultScript | None = None) -> list[Caption]:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("camera", video)
    async with house(inbox, sink, script, settings=WATCHED) as (pipeline, engine):
        await pipeline.run()
        asked = len(engine.requests)
        counted = pipeline.metrics.registry.get_sample_value
        unchanged = counted("captiond_windows_unchanged_total", {"source": "memory"}) or 0
        saved = counted("captiond_tokens_saved_total", {"source": "memory", "kind": "prompt"}) or 0
    (captions,) = sink.captions.values()
    assert asked == sum(one.status is not CaptionStatus.UNCHANGED for one in captions)
    assert unchanged == sum(one.status is CaptionStatus.UNCHANGED for one in captions)
    assert (saved > 0) is (unchanged > 0)
    return list(captions)


async def test_ten_minutes_of_a_still_camera(camera: bytes) -> None:
    captions = await captions_of(camera)

    asked = [one for one in captions if one.status is CaptionStatus.SUCCESS]
    assert [one.window.index for one in captions] == list(range(MINUTES * 60 // WINDOW_S))
    for start_s, end_s in SPELLS:
        moved = range(start_s // WINDOW_S, -(-end_s // WINDOW_S))
        assert set(moved) <= {one.window.index for one in asked}
    assert len(asked) <= 0.2 * len(captions)
    for one in captions:
        if one.status is CaptionStatus.UNCHANGED:
            described = next(before for before in reversed(asked) if before.window.index < one.window.index)
            assert one.same_as is not None
            assert (one.same_as.caption_id, one.same_as.text) == (described.caption_id, described.text)
            assert one.text == described.text
            assert one.usage.prompt_tokens == 0


async def test_an_empty_answer_is_not_repeated(camera: bytes) -> None:
    captions = await captions_of(camera, FaultScript(empty=("/0/", "/1/")))

    assert [one.status for one in captions[:2]] == [CaptionStatus.EMPTY] * 2
    first = next(one for one in captions if one.status is CaptionStatus.UNCHANGED)
    assert first.same_as is not None
    assert first.same_as.text


async def test_a_clip_that_goes_on_asks_first(camera: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("camera", camera)
    async with house(inbox, sink, once=False, delay_ms=20, settings=WATCHED) as (pipeline, _):
        work = asyncio.create_task(pipeline.run())
        while not sink.captions:
            await asyncio.sleep(0.01)
        await pipeline.drain()
        await work
    (before,) = (len(captions) for captions in sink.captions.values())
    async with house(inbox, sink, settings=WATCHED) as (pipeline, _):
        await pipeline.run()

    (captions,) = sink.captions.values()
    assert [one.window.index for one in captions] == list(range(MINUTES * 60 // WINDOW_S))
    if before < len(captions):
        assert captions[before].status is CaptionStatus.SUCCESS


def test_ids_are_those_of_a_daemon_that_asks_about_each_window() -> None:
    changed = ClipSettings(WATCHED.windows, WATCHED.frames, WATCHED.prompt)

    assert changed.plan_hash("model") != WATCHED.plan_hash("model")
    assert changed.sampler_hash == WATCHED.sampler_hash
