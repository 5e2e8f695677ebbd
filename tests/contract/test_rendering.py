"""Renderers in processes of their own: what vLLM renders to the byte, and nobody's loss when one dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import neva
from connectors.errors import Poison, Reason, Transient
from daemon.engines.model.media_form import black_frames
from daemon.engines.rendering.in_process import InProcessRenderer
from daemon.engines.rendering.job import RenderedWindow, RenderJob
from daemon.engines.rendering.pool import RendererPool
from daemon.engines.rendering.process import RendererProcess
from daemon.engines.vllm import library
from daemon.engines.vllm.load import LoadedModel, load_model
from daemon.memory_file import MemoryFile
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from testing.rendered_windows import differences
from testing.tiny_models import build
from tests.contract.vllm_engines import MARKS, MAX_FRAMES, settings
from tests.windows_of_noise import noise

pytestmark = MARKS

SHAPES = ((1, 56, 56), (4, 56, 112), (5, 112, 64), (8, 30, 40))
PATIENCE_S = 300.0


@dataclass
class Model:
    """A model's renderer in this process, and its configuration for others."""

    loaded: LoadedModel
    configuration: Any
    packed: bytes
    here: InProcessRenderer

    @classmethod
    def of(cls, folder: Path) -> "Model":
        loaded = load_model(settings(folder), MAX_FRAMES)
        configuration = library.configuration_of(dict(loaded.arguments))
        packed = library.packed_configuration(configuration)
        return cls(loaded, configuration, packed, InProcessRenderer(library.renderer_of(packed), PATIENCE_S))

    def job(self, frames: FrameSet, name: str = "clip/0/0") -> RenderJob:
        form = self.loaded.planner.form
        ids = self.loaded.planner.encoder.encode(Prompt("What is shown?"), form.items(len(frames.frames)))
        return RenderJob.of(frames, ids, form, name, by_content=library.hashes_media(self.configuration))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.of(build("qwen3_vl", tmp_path_factory.mktemp("models")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(model: Model) -> AsyncIterator[RendererPool]:
    two = RendererPool(2, model.packed, {}, PATIENCE_S)
    await two.start()
    yield two
    await two.close()
    assert two.pids == []


async def rendered(by: Any, job: RenderJob, frames: FrameSet) -> RenderedWindow:
    async with by.rendered(job, frames) as window:
        found: RenderedWindow = window
        return found


def shared(frames: FrameSet) -> FrameSet:
    """Return a window whose frames lie in a memory file, as a decoder leaves them."""
    memory = MemoryFile("test-window", frames.frames.nbytes)
    os.pwrite(memory.descriptor, frames.frames.tobytes(), 0)
    pixels = memory.lend(MemoryFile.close).reshape(frames.frames.shape)
    return FrameSet(frames.window, pixels, frames.pts_ns, memory_file=memory.descriptor)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lies_in", [shared, lambda frames: frames])
async def test_every_byte_is_vllms_own(
    model: Model, pool: RendererPool, shape: tuple[int, int, int], lies_in: Any
) -> None:
    frames = lies_in(noise(*shape))
    job = model.job(frames)

    there, here = await asyncio.gather(rendered(pool, job, frames), rendered(model.here, job, frames))

    assert differences(there.input, here.input) == []
    assert there.size_bytes >= here.size_bytes > 0
    assert there.render_ms > 0


@pytest.mark.thorough
async def test_images_are_rendered_to_the_same_bytes_too() -> None:
    model = Model.of(Path(neva.__file__).parent / "bundled")
    one = RendererPool(1, model.packed, {}, PATIENCE_S)
    await one.start()
    try:
        frames = shared(noise(4, 64, 64))
        job = model.job(frames)

        there, here = await rendered(one, job, frames), await rendered(model.here, job, frames)
    finally:
        await one.close()

    assert job.form.modality == "image"
    assert differences(there.input, here.input) == []


async def test_what_differs_is_noticed(model: Model, pool: RendererPool) -> None:
    one, other = noise(4, 56, 56), noise(4, 56, 56, seed=1)

    first = await rendered(pool, model.job(one), one)
    second = await rendered(pool, model.job(other, "clip/1/0"), other)

    places = differences(first.input, second.input)
    assert any("pixel_values_videos" in place for place in places)
    assert any("mm_hashes" in place for place in places)


async def test_frames_may_go_once_they_are_rendered(model: Model, pool: RendererPool) -> None:
    frames = shared(noise(4, 56, 56))
    job = model.job(frames)
    here = await rendered(model.here, job, frames)

    there = await rendered(pool, job, frames)
    descriptor = frames.memory_file
    frames.let_go()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert differences(there.input, here.input) == []


async def test_frames_that_are_being_rendered_are_not_filled_again(model: Model, pool: RendererPool) -> None:
    noisy, back = noise(4, 56, 56), list[MemoryFile]()
    memory = MemoryFile("test-window", noisy.frames.nbytes)
    os.pwrite(memory.descriptor, noisy.frames.tobytes(), 0)
    pixels = memory.lend(back.append).reshape(noisy.frames.shape)
    frames = FrameSet(noisy.window, pixels, noisy.pts_ns, memory_file=memory.descriptor)
    del pixels

    rendering = asyncio.create_task(rendered(pool, model.job(frames), frames))
    for _ in range(5):  # until the renderer has its message
        await asyncio.sleep(0)
    assert pool.state.at_work == 1
    frames.let_go()

    assert back == []
    await rendering
    assert back == [memory]
    memory.close()


async def test_a_window_that_vllm_refuses_is_refused_by_a_renderer(model: Model, pool: RendererPool) -> None:
    frames = noise(4, 56, 56)
    job = RenderJob.of(frames, [1, 2, 3], model.loaded.planner.form, "clip/0/0", by_content=False)  # no placeholder
    pids = pool.pids

    with pytest.raises(Poison) as refused:
        await rendered(pool, job, frames)

    assert refused.value.reason == Reason.ENGINE_REFUSED
    assert pool.pids == pids


async def test_a_renderer_has_no_network_no_device_and_no_ctrl_c(pool: RendererPool) -> None:
    for pid in pool.pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )

        assert b"CUDA_VISIBLE_DEVICES=" in environment
        assert int(status["SigBlk"], 16) & 1 << (signal.SIGINT - 1)
        assert status["Seccomp"].strip() == "2"
        assert os.getsid(pid) == pid


async def test_windows_wait_their_turn_and_each_is_answered_with_its_own(model: Model, pool: RendererPool) -> None:
    windows = [noise(2, 56, 56, seed=seed) for seed in range(12)]
    jobs = [model.job(one, f"clip/{at}/0") for at, one in enumerate(windows)]

    done = await asyncio.gather(*(rendered(pool, job, one) for job, one in zip(jobs, windows, strict=True)))

    for one, job, frames in zip(done, jobs, windows, strict=True):
        assert one.input["mm_hashes"]["video"] == [f"{job.name}/video/0"]
        assert differences(one.input, (await rendered(model.here, job, frames)).input) == []
    assert max(one.queue_ms for one in done) > 0
    assert (pool.state.waiting, pool.state.at_work) == (0, 0)


async def test_a_renderer_is_held_until_its_window_is_taken(model: Model, pool: RendererPool) -> None:
    frames = noise(2, 56, 56)
    async with pool.rendered(model.job(frames), frames), pool.rendered(model.job(frames), frames):
        third = asyncio.create_task(rendered(pool, model.job(frames), frames))
        while not pool.state.waiting:
            await asyncio.sleep(0.01)
        assert not third.done()

    assert (await third).size_bytes > 0


async def test_a_cancelled_window_leaves_its_renderer_to_the_next(model: Model, pool: RendererPool) -> None:
    frames, pids = noise(8, 112, 112), pool.pids
    gone = [asyncio.create_task(rendered(pool, model.job(frames), frames)) for _ in range(4)]
    while pool.state.at_work < 2:
        await asyncio.sleep(0.001)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)

    job = model.job(frames, "clip/9/0")
    there, here = await rendered(pool, job, frames), await rendered(model.here, job, frames)

    assert differences(there.input, here.input) == []
    assert pool.pids == pids


async def test_a_renderer_that_is_killed_fails_its_window_alone_and_is_replaced(
    model: Model, pool: RendererPool
) -> None:
    frames, before, replaced = noise(2, 56, 56), pool.pids, pool.state.replaced
    os.kill(before[0], signal.SIGSTOP)  # it will not answer before it is killed
    both = [asyncio.create_task(rendered(pool, model.job(frames), frames)) for _ in range(2)]
    while pool.state.at_work < 1 and not any(task.done() for task in both):
        await asyncio.sleep(0.001)
    os.kill(before[0], signal.SIGKILL)

    ends = await asyncio.gather(*both, return_exceptions=True)

    failed = [end for end in ends if isinstance(end, BaseException)]
    assert [type(end) for end in failed] == [Transient]
    assert isinstance(failed[0], Transient)
    assert failed[0].reason == Reason.RENDERER_DIED
    assert (await rendered(pool, model.job(frames), frames)).size_bytes > 0  # by the other one
    while len(pool.pids) < 2:
        await asyncio.sleep(0.05)
    assert pool.state.replaced == replaced + 1
    assert before[0] not in pool.pids
    assert not pool.lost


async def test_a_renderer_past_its_deadline_is_ended(model: Model) -> None:
    renderer = RendererProcess(model.packed, {}, deadline_s=0.5)
    await renderer.start()
    assert renderer.pid is not None
    os.kill(renderer.pid, signal.SIGSTOP)
    frames = black_frames(2)

    with pytest.raises(Transient) as late:
        await renderer.render(model.job(frames), frames, 0.0)

    assert late.value.reason == Reason.RENDER_DEADLINE
    assert not renderer.is_running


async def test_a_renderer_that_does_not_start_is_said(model: Model) -> None:
    broken = RendererPool(1, b"no configuration", {}, PATIENCE_S)

    with pytest.raises(Transient):
        await broken.start()

    assert broken.pids == []
