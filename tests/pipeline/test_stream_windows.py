"""Windows of a stream through the real sampler and the main loop, from a recording that the test makes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.contract import Caption, CaptionStatus, Clip, Missing
from connectors.errors import Poison
from connectors.memory import MemorySink
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.engines.guard import GuardedEngine
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy
from testing.cameras.encoded_frames import STEP_NS, encoded
from testing.fake_recording import NS
from tests.corpus.clips import RATE, Recipe, Truth, make
from tests.corpus.sampling import Outcome, PathMedia, running, wrong_frames
from tests.unit.connectors.stream.windows import FIRST, Stream

pytestmark = pytest.mark.timeout(120)

SETTINGS = ClipSettings(WindowPolicy(4 * NS_PER_S, 4 * NS_PER_S, 0), FramePolicy(num_frames=4), Prompt("Describe."))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Return six seconds with a key frame every second."""
    return make(tmp_path_factory.mktemp("clips") / "six", Recipe(frames=6 * RATE, options={"g": str(RATE)}))


@pytest.mark.parametrize("snap", ["exact", "keyframe"])
async def test_the_plan_has_the_span_alone_and_shows_its_frames(truth: Truth, snap: str) -> None:
    async with running() as sampler:
        for start_ms in (0, 40, 1000, 1300, 1999):
            span_ns = (start_ms * 10**6, (start_ms + 4000) * 10**6)
            clip = Clip("c", "s", PathMedia(truth.path), 0, span_ns=span_ns)
            frames = FramePolicy(num_frames=16, snap=snap)  # type: ignore[arg-type]
            outcome = Outcome()
            with contextlib.closing(await sampler.plan(clip, WindowPolicy(NS_PER_S, NS_PER_S), frames)) as plan:
                async for window in sampler.frame_sets(plan):
                    outcome.windows.append(window)
                    sampler.release(window)  # type: ignore[arg-type]

            (window,) = outcome.windows
            assert (window.window.start_ns, window.window.exclusive_end_ns) == span_ns
            assert min(window.pts_ns) >= span_ns[0]  # type: ignore[union-attr]
            if snap == "exact":
                assert wrong_frames(outcome, truth) == []


async def test_a_span_without_a_frame_is_refused(truth: Truth) -> None:
    clip = Clip("c", "s", PathMedia(truth.path), 0, span_ns=(7 * NS, 11 * NS))
    async with running() as sampler:
        with pytest.raises(Poison, match="no frame begins in the window"):
            await sampler.plan(clip, WindowPolicy(), FramePolicy())


@contextlib.asynccontextmanager
async def house(
    stream: Stream, sink: MemorySink, script: FaultScript | None = None
) -> AsyncIterator[tuple[Pipeline, FakeEngine]]:
    """Build a pipeline over one stream."""
    fake = FakeEngine(slots=16, script=script)
    engine = GuardedEngine(fake, 20.0, 60.0)
    sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings())
    route = stream.route(sink)
    await sampler.start()
    await engine.start()

    def choose(clip: Clip) -> ClipSettings:
        return SETTINGS.thinned if clip.stream is not None and clip.stream.thinned else SETTINGS

    try:
        yield Pipeline([route], sampler, engine, choose, max_clips_in_flight=8, max_attempts=2, metrics=Metrics()), fake
        assert sampler.budget.held_bytes == 0
    finally:
        await route.close()
        await engine.close()
        await sampler.close()


async def until_published(pipeline: Pipeline, sink: MemorySink, count: int) -> list[Caption]:
    """Run the pipeline until so many windows have their messages; stop it, and return them in their order."""
    running = asyncio.create_task(pipeline.run())
    async with asyncio.timeout(60):
        while len(sink.captions) < count:
            await asyncio.sleep(0.01)
    await pipeline.drain()
    await running
    return [caption for captions in sink.captions.values() for caption in captions]


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


async def test_every_window_has_one_message_in_its_place(stream: Stream, truth: Truth) -> None:
    video, span_ns = truth.path.read_bytes(), (NS, 5 * NS)
    for index in (0, 1, 3, 4):
        stream.recording.put(stream.grid.span(FIRST + index)[0], video, span_ns)
    stream.recording.put(stream.grid.span(FIRST + 5)[0], b"no video", span_ns)
    stream.recording.put(stream.grid.span(FIRST + 6)[0], video, span_ns)
    stream.recording.put(stream.grid.span(FIRST + 7)[0], video, (6 * NS, 10 * NS))
    stream.know(8)
    sink = MemorySink()

    async with house(stream, sink, FaultScript(reverse_by=2)) as (pipeline, _):
        found = await until_published(pipeline, sink, 8)

    assert [one.stream.index - FIRST for one in found if one.stream] == list(range(8))
    statuses = ["success", "success", "gap", "success", "success", "error", "success", "gap"]
    assert [str(one.status) for one in found] == statuses
    assert (found[2].reason, found[2].detail) == ("away", "the stream was away")
    assert found[5].reason == "not_a_video"
    nothing = "the stream was connected, and nothing came"  # what is on screen at its begin is of the window before it
    assert (found[7].reason, found[7].detail) == ("silent", nothing)
    assert (found[0].window.index, found[0].window.start_ns, found[0].window.exclusive_end_ns) == (0, *span_ns)
    assert sink.rejections == {}


@pytest.mark.parametrize("size", [1, 4, 0.5])
async def test_a_frame_that_was_cut_when_a_connection_broke_costs_no_other(stream: Stream, size: float) -> None:
    """A window with whole frames is captioned; one of nothing but the cut frame is a gap where the rest is missing."""
    camera = encoded("h264", 40)
    cut = camera.cut(27, size if isinstance(size, int) else int(len(camera.packets[27][1]) * size)).recorded(0, 28)
    ends = 27 * STEP_NS  # the begin of the frame that was cut, on the media's clock
    for index, begin_ns in enumerate((ends - 3 * NS, ends - STEP_NS, ends, ends)):
        start_ns, end_ns = stream.grid.span(FIRST + index)
        broke_ns = start_ns + ends + STEP_NS - begin_ns
        missing = (Missing(broke_ns, end_ns, "away"),) if index < 3 else ()
        stream.recording.put(start_ns, cut, (begin_ns, begin_ns + 4 * NS), missing)
    stream.know(4)
    sink = MemorySink()

    async with house(stream, sink) as (pipeline, _):
        found = await until_published(pipeline, sink, 4)

    damaged = "error" if size == 0.5 else "gap"  # of the smallest scraps not even a place is recorded
    assert [str(one.status) for one in found] == ["success", "success", "gap", damaged]
    assert found[2].reason == "away"
    assert sink.rejections == {}


async def test_a_message_says_where_the_time_since_the_last_frame_went(stream: Stream, truth: Truth) -> None:
    stream.recording.put(stream.grid.span(FIRST)[0], truth.path.read_bytes(), (NS, 5 * NS))
    stream.know(1)
    sink = MemorySink()

    async with house(stream, sink) as (pipeline, _):
        (caption,) = await until_published(pipeline, sink, 1)

    parts = {"record", "wait", "plan", "decode", "queue", "engine", "order", "since_arrival"}
    assert parts <= set(caption.timing_ms)


async def test_a_thinned_window_shows_half_the_frames_under_the_same_id(stream: Stream, truth: Truth) -> None:
    stream.on_lag, stream.lag_ns = "thin", 4 * NS
    for index in range(3):
        stream.recording.put(stream.grid.span(FIRST + index)[0], truth.path.read_bytes(), (NS, 5 * NS))
    stream.know(3)
    thinned, whole = MemorySink(), MemorySink()
    async with house(stream, thinned) as (pipeline, _):
        await until_published(pipeline, thinned, 3)
    stream.folder, stream.on_lag = stream.folder / "other", "wait"
    async with house(stream, whole) as (pipeline, _):
        await until_published(pipeline, whole, 3)

    first, again = next(iter(thinned.captions.values()))[0], next(iter(whole.captions.values()))[0]
    assert first.stream is not None
    assert first.stream.thinned
    assert (len(first.frames.pts_ns), len(again.frames.pts_ns)) == (2, 4)
    assert (first.caption_id, first.plan_hash) == (again.caption_id, again.plan_hash)


async def test_a_stop_in_the_middle_leaves_out_nothing(stream: Stream, truth: Truth) -> None:
    for index in range(6):
        stream.recording.put(stream.grid.span(FIRST + index)[0], truth.path.read_bytes(), (NS, 5 * NS))
    stream.know(6)
    sink = MemorySink()
    for _ in range(8):
        async with house(stream, sink) as (pipeline, _):
            await until_published(pipeline, sink, min(6, len(sink.captions) + 1))
        if len(sink.captions) == 6:
            break

    assert [captions[0].stream.index - FIRST for captions in sink.captions.values() if captions[0].stream] == [
        *range(6)
    ]
    assert all(captions[0].status is CaptionStatus.SUCCESS for captions in sink.captions.values())
