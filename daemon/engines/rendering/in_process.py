"""Rendering in vLLM's own thread of this process: enough for a small machine, and the only way with vLLM's caches."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from connectors.errors import EngineLost
from daemon.engines.contract import RenderingState
from daemon.engines.rendering.job import RenderedWindow, RenderJob
from daemon.engines.rendering.patience import patient
from daemon.engines.vllm import library
from daemon.engines.vllm.output import rendered_bytes
from daemon.windows import FrameSet


class Rendering(Protocol):
    """Where an engine's windows are rendered."""

    @property
    def state(self) -> RenderingState: ...
    @property
    def lost(self) -> bool:
        """Whether nothing will be rendered any more."""
        ...

    def rendered(self, job: RenderJob, frames: FrameSet) -> AbstractAsyncContextManager[RenderedWindow]:
        """Hold a window rendered, and its renderer with it until the window is taken."""
        ...

    async def close(self) -> None: ...


class InProcessRenderer:
    """vLLM's own renderer, one window after the other. Nothing of it runs on the event loop."""

    lost = False

    def __init__(self, renderer: Any, deadline_s: float) -> None:
        self._renderer, self._deadline_s = renderer, deadline_s
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def state(self) -> RenderingState:
        """What the renderer is doing now."""
        return RenderingState(0, self._waiting, int(self._turn.locked()))

    @asynccontextmanager
    async def rendered(self, job: RenderJob, frames: FrameSet) -> AsyncIterator[RenderedWindow]:
        """Hold a window rendered. :class:`EngineLost` past the deadline: a thread that hangs can't be ended."""
        begun_s = time.monotonic()
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        turn_s = time.monotonic()
        work = asyncio.create_task(self._render(job, frames))
        try:
            done = await patient(work, self._deadline_s)
            took_ms = (time.monotonic() - turn_s) * 1000
            yield RenderedWindow(done, rendered_bytes(done), (turn_s - begun_s) * 1000, took_ms)
        except TimeoutError:
            raise EngineLost(f"a window was not rendered within {self._deadline_s:g} s") from None
        finally:  # the thread can't be interrupted: the next window's turn comes after it
            work.add_done_callback(self._next)

    def _next(self, work: "asyncio.Task[Any]") -> None:
        self._turn.release()
        if not work.cancelled():
            work.exception()  # its caller has it, or is gone

    async def _render(self, job: RenderJob, frames: FrameSet) -> Any:
        request = await asyncio.to_thread(job.request, frames.frames)  # which copies the pixels
        return await library.render_in_its_thread(self._renderer, request)

    async def close(self) -> None:
        """Do nothing: the renderer is vLLM's, and goes with it."""
