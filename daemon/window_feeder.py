"""The feeder: a clip's windows from the sampler into the engine, as fast as both allow."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from connectors.contract import Caption
from connectors.errors import EngineLost
from daemon.clip_task import ClipTask
from daemon.decoding.sampler import ClipPlan, Sampler, UnreadableWindow
from daemon.engines.contract import Engine
from daemon.reorder import ReorderBuffer
from daemon.telemetry import tracing
from daemon.telemetry.metrics import Metrics
from daemon.windows import FrameSet

SampledWindow = FrameSet | UnreadableWindow


class WindowFeeder:
    """Starts a request for each window while the engine has slots. One feeder serves all clips.

    ``on_engine_lost`` is called while the clips whose requests the engine held still say so.
    """

    def __init__(
        self, sampler: Sampler, engine: Engine, metrics: Metrics, *, on_engine_lost: Callable[[], None]
    ) -> None:
        self._sampler, self._engine, self._metrics = sampler, engine, metrics
        self._on_engine_lost = on_engine_lost
        self._slots = asyncio.Semaphore(engine.slots)
        self._draining = False

    def drain(self) -> None:
        """Start no further request."""
        self._draining = True

    async def feed(self, task: ClipTask, plan: ClipPlan, buffer: ReorderBuffer) -> None:
        """Put a request for each window into the buffer, and end it with what stopped the feeding, if anything did."""
        error: Exception | None = None
        try:
            async with aclosing(self._sampler.frame_sets(plan, task.next_window)) as windows:
                async for window in windows:
                    if self._slots.locked():
                        with self._metrics.windows_waiting.labels(task.clip.source).track_inprogress():
                            go_on = await self._take_slot(window)
                    else:
                        go_on = await self._take_slot(window)
                    if not go_on:
                        break
                    held = _Held(self._sampler, window)
                    request = asyncio.create_task(self._describe(task, window, held))
                    request.add_done_callback(partial(self._done, held))
                    buffer.put(request)
        except Exception as fault:
            error = fault
        finally:
            buffer.end(error)

    async def _take_slot(self, window: SampledWindow) -> bool:
        """Wait for a slot in the engine; False, with the window's bytes given back, when the program drains."""
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            _Held(self._sampler, window).give_back()
            raise
        if self._draining:
            self._slots.release()
            _Held(self._sampler, window).give_back()
            return False
        return True

    def _done(self, held: "_Held", request: "asyncio.Task[Caption]") -> None:
        """Give back a window's slot and bytes. Runs even for a request that was cancelled before it began."""
        if not request.cancelled():
            request.exception()  # seen: when the engine dies, one clip's request tells it and nobody reads the others
        self._slots.release()
        held.give_back()

    async def _describe(self, task: ClipTask, window: SampledWindow, held: "_Held") -> Caption:
        """Return one window's caption."""
        if isinstance(window, UnreadableWindow):
            return task.unreadable(window)
        task.in_engine += 1
        try:
            with self._metrics.in_engine(), tracing.span("describe window") as span:
                name = task.request_id(window.window)
                done = await self._engine.describe(window, task.settings.prompt, name, held.rendered)
                tracing.described(span, window, done)
        except EngineLost:
            self._on_engine_lost()
            raise
        finally:
            task.in_engine -= 1
        self._metrics.observe_window(task.clip.source, window, done)
        return task.caption(window, done)


class _Held:
    """The bytes that one window holds: its frames until they are rendered, then what is rendered until the answer.

    Rendered windows have bytes of their own, which come back with the engine's answers: neither they nor frames wait
    for each other. One that is larger than all of these goes alone.
    """

    def __init__(self, sampler: Sampler, window: SampledWindow) -> None:
        self._sampler, self._budget = sampler, sampler.rendered_budget
        self._frames = window if isinstance(window, FrameSet) else None
        self._rendered_bytes = 0
        self._is_over = False

    async def rendered(self, size_bytes: int) -> None:
        """Hold what was rendered instead of the frames, as soon as there is room for it."""
        frames, self._frames = self._frames, None
        if frames is None:
            return
        self._sampler.release(frames, let_go=True)
        reserved = min(size_bytes, self._budget.limit_bytes)
        await self._budget.reserve(reserved)
        if self._is_over:  # an engine that does not let go of an aborted request
            self._budget.release(reserved)
        else:
            self._rendered_bytes = reserved

    def give_back(self) -> None:
        """Give back whatever is held."""
        self._is_over = True
        frames, self._frames = self._frames, None
        if frames is not None:
            self._sampler.release(frames)
        reserved, self._rendered_bytes = self._rendered_bytes, 0
        if reserved:
            self._budget.release(reserved)
