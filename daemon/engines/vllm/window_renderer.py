"""The part of an engine that renders windows by vLLM's processor, whether or not a model takes what comes of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from connectors.errors import EngineLost
from daemon.engines.contract import RenderingState
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.rendering.choice import start_rendering
from daemon.engines.rendering.in_process import Rendering
from daemon.engines.rendering.job import RenderedWindow, RenderJob
from daemon.engines.shared_rendering import SharedRendering
from daemon.engines.vllm import library
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet


class WindowRenderer:
    """Renders windows once it has a planner and renderers. An engine inherits it."""

    def __init__(self) -> None:
        self._planner: ModelTokenPlanner | None = None
        self._rendering: Rendering | None = None
        self._by_content = False  # whether media are named by what they show

    @property
    def planner(self) -> ModelTokenPlanner:
        """The planner of the model; only after the engine's start."""
        if self._planner is None:
            raise RuntimeError("the engine has not started")
        return self._planner

    @property
    def rendering(self) -> RenderingState | None:
        """The state of the renderers; None before they are there."""
        return None if self._rendering is None else self._rendering.state

    async def start_renderers(
        self, llm: Any, asked: int | Literal["auto"], environment: Mapping[str, str], deadline_s: float
    ) -> None:
        """Start the renderers for ``llm``, which has vLLM's configuration and its own renderer."""
        self._by_content = library.hashes_media(llm.vllm_config)
        self._rendering = await start_rendering(llm, asked, environment, deadline_s)

    def rendered(
        self, frames: FrameSet, prompt: Prompt, request_id: str
    ) -> AbstractAsyncContextManager[RenderedWindow]:
        """Hold one window rendered; :class:`EngineLost` once the renderers have ended."""
        if self._rendering is None:
            raise EngineLost("the engine was stopped")
        form = self.planner.form
        ids = self.planner.encoder.encode(prompt, form.items(len(frames.frames)))
        job = RenderJob.of(frames, ids, form, request_id, by_content=self._by_content)
        if frames.shared is not None:
            return self._rendered_once(frames.shared, job, frames)
        return self._rendering.rendered(job, frames)

    @asynccontextmanager
    async def _rendered_once(
        self, shared: SharedRendering, job: RenderJob, frames: FrameSet
    ) -> AsyncIterator[RenderedWindow]:
        """Hold a window rendered, by another request where its prompt differs behind the media alone."""
        async with shared.turn:
            found = None if self.planner.encoder.placeholder.respells else shared.for_prompt(job.ids)
            if found is not None:
                yield RenderedWindow(found, shared.made, 0.0, 0.0)
                return
            if self._rendering is None:
                raise EngineLost("the engine was stopped")
            async with self._rendering.rendered(job, frames) as window:
                shared.rendered.append((job.ids, window.input))
                shared.made = window.size_bytes
                yield window

    async def end_renderers(self) -> None:
        """End the renderers. Safe to call again."""
        rendering, self._rendering = self._rendering, None
        if rendering is not None:
            await rendering.close()
