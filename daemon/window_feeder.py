"""The feeder: a clip's windows from the sampler into the engine, as fast as both allow."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

from connectors.contract import Caption
from connectors.errors import EngineLost
from daemon.answers.asking import ask
from daemon.answers.context import WindowsBefore
from daemon.answers.picture import look_at
from daemon.clip_task import ClipTask
from daemon.content.unchanged import Described, LastDescribed
from daemon.decoding.sampler import ClipPlan, Sampler, UnreadableWindow
from daemon.engines.contract import Engine
from daemon.engines.shared_rendering import SharedRendering
from daemon.feed.observer import Observer, Unobserved
from daemon.prompts.prompt import Prompt
from daemon.reorder import ReorderBuffer
from daemon.slots import ALL_NORMAL, Priorities, PrioritySlots
from daemon.telemetry import tracing
from daemon.telemetry.metrics import Metrics
from daemon.windows import FrameSet

SampledWindow = FrameSet | UnreadableWindow


class WindowFeeder:
    """Starts a request for each window while the engine has slots. One feeder serves all clips.

    ``on_engine_lost`` is called while the clips whose requests the engine held still say so.
    """

    def __init__(
        self,
        sampler: Sampler,
        engine: Engine,
        metrics: Metrics,
        *,
        on_engine_lost: Callable[[], None],
        priorities: Priorities = ALL_NORMAL,
        observer: Observer | None = None,
    ) -> None:
        self._sampler, self._engine, self._metrics = sampler, engine, metrics
        self._on_engine_lost, self._observer = on_engine_lost, observer or Unobserved()
        self._slots = PrioritySlots(engine.slots, priorities)
        self._draining = False

    def drain(self) -> None:
        """Start no further request."""
        self._draining = True

    async def feed(self, task: ClipTask, plan: ClipPlan, buffer: ReorderBuffer) -> None:
        """Put a request for each window into the buffer, and end it with what stopped the feeding, if anything did."""
        error: Exception | None = None
        before = task.before.copy()
        last = LastDescribed(task.settings.unchanged)
        try:
            async with aclosing(self._sampler.frame_sets(plan, task.next_window)) as windows:
                async for window in windows:
                    same = await self._same_as(last, window)
                    if not await self._admit(task, window, same):
                        break
                    request = self._begin(task, window, before, last, same)
                    buffer.put(request)
                    if task.is_in_order and not await _told(request, before):
                        break
        except Exception as fault:
            error = fault
        finally:
            buffer.end(error)

    async def _same_as(self, last: LastDescribed, window: SampledWindow) -> Described | None:
        """Return the described window that a window is the same as; None for one that the engine is asked about."""
        if isinstance(window, UnreadableWindow):
            return None
        try:
            return await last.same_as(window)
        except BaseException:
            _Held(self._sampler, window).give_back()
            raise

    async def _admit(self, task: ClipTask, window: SampledWindow, same: Described | None) -> bool:
        """Return whether a window is begun; one that the engine is asked about has a slot then."""
        if same is not None and not self._draining:
            return True
        if not self._slots.locked():
            return await self._take_slot(task, window)
        with self._metrics.windows_waiting.labels(task.clip.source).track_inprogress():
            return await self._take_slot(task, window)

    def _begin(
        self,
        task: ClipTask,
        window: SampledWindow,
        before: WindowsBefore,
        last: LastDescribed,
        same: Described | None,
    ) -> "asyncio.Task[list[Caption]]":
        """Begin a window: with a request, or by waiting for the captions of one that is the same."""
        held = _Held(self._sampler, window, len(task.settings.questions))
        if isinstance(window, FrameSet):
            self._observer.saw(task.clip, window)
        if isinstance(window, FrameSet) and same is not None:
            same.waiting += 1
            request = asyncio.create_task(self._repeat(task, window, held, before, same))
            request.add_done_callback(partial(self._repeated, held, same))
            return request
        request = asyncio.create_task(self._describe(task, window, held, before))
        request.add_done_callback(partial(self._done, held))
        if isinstance(window, FrameSet):
            last.asked(request)
        return request

    async def _repeat(
        self, task: ClipTask, window: FrameSet, held: "_Held", before: WindowsBefore, same: Described
    ) -> list[Caption]:
        """Return the captions of a described window for one that is the same; where there are none, ask after all."""
        if captions := await same.captions():
            self._metrics.observe_unchanged(task.clip.source, captions)
            return task.unchanged(window, captions)
        async with self._slots.held(task.clip.source):
            return await self._describe(task, window, held, before)

    def _repeated(self, held: "_Held", same: Described, request: "asyncio.Task[list[Caption]]") -> None:
        """Give back the bytes of a window that was to be the same as another; it has no slot."""
        same.waiting -= 1
        if not request.cancelled():
            request.exception()  # seen, as below
        held.give_back()

    async def _take_slot(self, task: ClipTask, window: SampledWindow) -> bool:
        """Wait for a slot in the engine; False, with the window's bytes given back, when the program drains."""
        try:
            await self._slots.acquire(task.clip.source)
        except asyncio.CancelledError:
            _Held(self._sampler, window).give_back()
            raise
        if self._draining:
            self._slots.release()
            _Held(self._sampler, window).give_back()
            return False
        return True

    def _done(self, held: "_Held", request: "asyncio.Task[list[Caption]]") -> None:
        """Give back a window's slot and bytes. Runs even for a request that was cancelled before it began."""
        if not request.cancelled():
            request.exception()  # seen: when the engine dies, one clip's request tells it and nobody reads the others
        self._slots.release()
        held.give_back()

    async def _describe(
        self, task: ClipTask, window: SampledWindow, held: "_Held", before: WindowsBefore
    ) -> list[Caption]:
        """Return one window's captions: the answer to each of its questions."""
        if isinstance(window, UnreadableWindow):
            return task.unreadable(window)
        questions = task.settings.questions
        if task.settings.unasked and (picture := await asyncio.to_thread(look_at, window)) in task.settings.unasked:
            return task.unasked(window, picture)
        if len(questions) > 1 or questions[0].retries:
            window.share(SharedRendering())
        task.in_engine += 1
        try:
            if len(questions) == 1:
                return [await self._ask(task, window, held, questions[0], before)]
            return await _all(self._ask(task, window, held, question, before) for question in questions)
        except EngineLost:
            self._on_engine_lost()
            raise
        finally:
            task.in_engine -= 1

    async def _ask(
        self, task: ClipTask, window: FrameSet, held: "_Held", prompt: Prompt, before: WindowsBefore
    ) -> Caption:
        """Return the caption that answers one question about a window."""
        told = before.of(prompt.name, prompt.context_windows) if prompt.context_windows else ()
        question = task.question(prompt, window, told)
        with self._metrics.in_engine(), tracing.span("describe window") as span:
            name = partial(task.request_id, window.window)
            asked = await ask(self._engine, window, question, name, held.rendered)
            tracing.described(span, self._engine.model_id, question, window, asked.done)
        is_first = prompt is task.settings.prompt
        self._metrics.observe_window(task.clip.source, window, asked.done, is_first=is_first)
        for attempt in asked.attempts:
            self._metrics.questions_again.labels(task.clip.source, attempt.status).inc()
        return task.caption(window, prompt, asked, told)


async def _all(asking: Iterable[Coroutine[Any, Any, Caption]]) -> list[Caption]:
    """Return what all of them return, in their order; once one of them raises, the others end."""
    tasks = [asyncio.create_task(one) for one in asking]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _told(request: "asyncio.Task[list[Caption]]", before: WindowsBefore) -> bool:
    """Wait for a window's captions, for the next one is told of them; False where there are none."""
    await asyncio.wait({request})
    if request.cancelled() or request.exception() is not None:
        return False
    before.add(request.result())
    return True


class _Held:
    """The bytes that one window holds: its frames until they are rendered, then what is rendered until the answer.

    Of several questions the last that is rendered counts: until then the frames may be needed. Rendered windows have
    bytes of their own, which come back with the engine's answers: neither they nor frames wait for each other. One that
    is larger than all of these goes alone.
    """

    def __init__(self, sampler: Sampler, window: SampledWindow, questions: int = 1) -> None:
        self._sampler, self._budget, self._left = sampler, sampler.rendered_budget, questions
        self._frames = window if isinstance(window, FrameSet) else None
        self._rendered_bytes = 0
        self._is_over = False

    async def rendered(self, size_bytes: int) -> None:
        """Hold what was rendered instead of the frames, as soon as there is room for it."""
        self._left -= 1
        if self._left > 0:
            return
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
