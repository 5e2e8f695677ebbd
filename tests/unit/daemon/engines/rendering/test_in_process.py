"""Rendering in this process: one window after the other, off the event loop, and a thread that hangs is an end."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import ConfigurationError, EngineLost, Poison
from daemon.engines.model.media_form import MediaForm
from daemon.engines.rendering.choice import start_rendering
from daemon.engines.rendering.in_process import InProcessRenderer
from daemon.engines.rendering.job import RenderJob
from daemon.windows import FrameSet
from tests.windows_of_noise import noise

FRAMES = noise(2, 8, 8)


class CopyNoted(MediaForm):
    """Notes the thread that copies pixels."""

    threads: set[int] = set()  # noqa: RUF012

    def window_media(self, frames: FrameSet) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        return super().window_media(frames)


class StandIn:
    """A renderer of vLLM's that waits for a word."""

    def __init__(self) -> None:
        self.at_work, self.most, self.goes_on = 0, 0, asyncio.Event()
        self.asked: list[dict[str, Any]] = []

    async def render_cmpl_async(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.asked += requests
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await self.goes_on.wait()
        finally:
            self.at_work -= 1
        tensor = SimpleNamespace(data=[SimpleNamespace(nbytes=100), SimpleNamespace(nbytes=20)])
        return [{"prompt_token_ids": [1], "mm_kwargs": {"video": [{"pixels": tensor}]}}]


def job(name: str = "clip/0/0", *, by_content: bool = False) -> RenderJob:
    return RenderJob.of(FRAMES, [1, 2], CopyNoted("video"), name, by_content=by_content)


async def render(renderer: InProcessRenderer, name: str = "clip/0/0", *, by_content: bool = False) -> int:
    async with renderer.rendered(job(name, by_content=by_content), FRAMES) as window:
        return window.size_bytes


async def test_one_window_after_the_other() -> None:
    theirs = StandIn()
    renderer = InProcessRenderer(theirs, 60.0)
    asked = [asyncio.create_task(render(renderer, f"clip/{at}/0")) for at in range(3)]
    while not theirs.at_work or renderer.state.waiting < 2:
        await asyncio.sleep(0.001)
    assert renderer.state.at_work == 1
    theirs.goes_on.set()

    assert await asyncio.gather(*asked) == [120] * 3
    assert theirs.most == 1
    assert [one["multi_modal_uuids"] for one in theirs.asked] == [
        {"video": [f"clip/{at}/0/video/0"]} for at in range(3)
    ]
    assert threading.get_ident() not in CopyNoted.threads
    assert (renderer.state.waiting, renderer.state.at_work) == (0, 0)


async def test_media_that_are_found_by_their_content_have_no_name() -> None:
    theirs = StandIn()
    theirs.goes_on.set()

    await render(InProcessRenderer(theirs, 60.0), by_content=True)

    assert "multi_modal_uuids" not in theirs.asked[0]


async def test_a_cancelled_window_keeps_its_turn_until_the_thread_is_done() -> None:
    theirs = StandIn()
    renderer = InProcessRenderer(theirs, 60.0)
    gone = asyncio.create_task(render(renderer))
    while not theirs.at_work:
        await asyncio.sleep(0.001)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    next_one = asyncio.create_task(render(renderer))
    await asyncio.sleep(0.05)
    assert len(theirs.asked) == 1
    theirs.goes_on.set()

    assert await next_one == 120
    assert theirs.most == 1


async def test_a_thread_that_hangs_is_the_engines_end() -> None:
    with pytest.raises(EngineLost, match=r"not rendered within 0\.05 s"):
        await render(InProcessRenderer(StandIn(), 0.05))


async def test_whatever_a_processor_raises_is_a_refusal() -> None:
    class Asserting(StandIn):
        async def render_cmpl_async(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
            raise AssertionError("Failed to apply prompt replacement")

    renderer = InProcessRenderer(Asserting(), 60.0)

    with pytest.raises(Poison, match="Failed to apply"):
        await render(renderer)
    with pytest.raises(Poison):
        await render(renderer)  # and the turn was given back


def model(**media: float) -> SimpleNamespace:
    config = SimpleNamespace(model_config=SimpleNamespace(multimodal_config=SimpleNamespace(**media)))
    return SimpleNamespace(vllm_config=config, renderer=StandIn())


@pytest.mark.parametrize("tie", ["mm_processor_cache_gb", "mm_ipc_gpu_memory_gb"])
async def test_processes_are_refused_where_vllm_must_render_itself(tie: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"engine\.renderers: .*{tie}"):
        await start_rendering(model(**{tie: 1.0}), 1, {}, 60.0)

    assert isinstance(await start_rendering(model(**{tie: 1.0}), "auto", {}, 60.0), InProcessRenderer)
    assert isinstance(await start_rendering(model(**{tie: 1.0}), 0, {}, 60.0), InProcessRenderer)
