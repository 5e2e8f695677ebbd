"""The main loop: clips in, windows through the engine, captions out, in window order.

`Pipeline.run` takes deliveries while there are slots; `_bring_to_an_end` names every way a clip can end;
`_describe_clip` keeps windows in flight and publishes the finished ones at the head. Only `Route.publish` acknowledges
anything.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial

from connectors.contract import Caption, Clip, Delivery, Progress, Quarantine, Route
from connectors.errors import EngineLost, Poison, Reason, Transient
from daemon.clip_task import ClipRun
from daemon.config.clip_settings import ClipSettings
from daemon.decoding.sampler import ClipPlan, Sampler, UnreadableWindow
from daemon.engines.contract import Engine
from daemon.reorder import InOrder
from daemon.slots import FairSlots
from daemon.telemetry import tracing
from daemon.telemetry.metrics import Metrics
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

BACK_OFF_S = (0.5, 2.0, 5.0)  # between attempts at one clip: a decoder restarts in well under the first


class Pipeline:
    """Everything between the sources and the sink."""

    def __init__(
        self,
        routes: Sequence[Route],
        sampler: Sampler,
        engine: Engine,
        settings_of: Callable[[Clip], ClipSettings],
        *,
        max_clips_in_flight: int,
        max_attempts: int,
        metrics: Metrics,
    ) -> None:
        self.routes, self.sampler, self.engine, self.settings_of = routes, sampler, engine, settings_of
        self.slots = FairSlots(max_clips_in_flight, len(routes))
        self.engine_slots = asyncio.Semaphore(engine.slots)
        self.max_attempts, self.metrics = max_attempts, metrics
        self.draining = asyncio.Event()
        self._runs: dict[ClipRun, Route] = {}
        self._suspects: list[tuple[Delivery, Route]] | None = None

    async def run(self) -> None:
        """Caption what the routes deliver until every one of them ends; :class:`EngineLost` when the engine dies."""
        async with asyncio.TaskGroup() as clips:
            for route in self.routes:
                clips.create_task(self._take(route, clips), name=f"take {route.name}")

    async def _take(self, route: Route, clips: asyncio.TaskGroup) -> None:
        async for delivery in route.deliveries():
            alone = delivery.position.quarantine > Quarantine.NONE
            with self.metrics.clips_waiting.labels(route.name).track_inprogress():
                await self.slots.acquire(route.name, alone=alone)  # a full pipeline asks for no further delivery
            clips.create_task(self.caption_clip(delivery, route), name=f"caption {delivery.clip.clip_id}")

    async def drain(self) -> None:
        """Take no further clip or window. What is in flight is finished and published; :meth:`run` then returns."""
        self.draining.set()
        for route in self.routes:
            await route.drain()

    async def caption_clip(self, delivery: Delivery, route: Route) -> None:
        """Caption one clip, from its first window that is not durable to one of its ends; its slot is free after it."""
        run = ClipRun(delivery, self.settings_of(delivery.clip), self.engine.model_id)
        self._runs[run] = route
        self.metrics.clip_taken(route.name, delivery.clip.media.size_bytes)
        try:
            with tracing.clip_span(delivery.clip, run.next_window):
                await self._bring_to_an_end(run, route)
        finally:
            del self._runs[run]
            self.metrics.clips_in_flight.labels(route.name).dec()
            delivery.clip.media.close()
            self.slots.release(route.name)

    async def _bring_to_an_end(self, run: ClipRun, route: Route) -> None:
        """Bring a clip to one of its ends.

        A caption for each window; a rejection, after the captions of what could be read; a stop, with the position
        kept; a dead engine, which ends the program.
        """
        try:
            if run.delivery.position.quarantine is Quarantine.REJECT:
                raise Poison(Reason.ENGINE_KILLER, "the engine died twice with this clip, then alone", origin="engine")
            while not self.draining.is_set():
                try:
                    return await self._describe_clip(run, route)
                except Transient as fault:
                    tracing.fault(fault)
                    run.failed(fault, self.max_attempts)
                    self.metrics.clip_retries.labels(route.name, fault.reason).inc()
                    log.warning("Trying again: %s.", fault.detail, extra=_fields(run))
                    await self._back_off(run.attempts)
        except Poison as fault:
            tracing.fault(fault)
            log.warning("Rejected as %s: %s.", fault.reason, fault.detail, extra=_fields(run))
            self.metrics.clips_rejected.labels(route.name, fault.reason).inc()
            await route.publish(run.rejected(fault))

    async def _back_off(self, attempts: int) -> None:
        pause = asyncio.timeout(BACK_OFF_S[min(attempts, len(BACK_OFF_S)) - 1])
        try:
            async with pause:
                await self.draining.wait()
        except TimeoutError:
            return

    async def _describe_clip(self, run: ClipRun, route: Route) -> None:
        """Publish the clip's windows in order, as they are done.

        1. The feeder puts windows into the engine while there are slots and ends with a fault where the clip does.
        2. The finished windows at the head are published together; each publish moves the position.
        3. The publish of the last window, after the feeder ended well, also finishes the clip.
        """
        with self.metrics.stage(route.name, "plan"), tracing.span("plan"):
            plan = await self.sampler.plan(run.clip, run.settings.windows, run.settings.frames, run.settings.decoder)
        ahead = InOrder()
        feeder = asyncio.create_task(self._feed(run, plan, ahead))
        try:
            async for captions, fault in ahead.heads():
                finished = run.next_window + len(captions) == len(plan.windows)
                ended = (await feeder) if finished and fault is None else fault
                last = finished and ended is None
                if captions or last:
                    await self._publish(run, route, run.advance(captions, last=last))
                if ended is not None:
                    raise ended
                if last:
                    return
            if (fault := await feeder) is not None:
                raise fault
            if run.next_window == len(plan.windows):
                await self._publish(run, route, run.advance([], last=True))
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await ahead.abandon()
            plan.close()

    async def _publish(self, run: ClipRun, route: Route, progress: Progress) -> None:
        with self.metrics.stage(route.name, "publish"), tracing.span("publish"):
            await route.publish(progress)
        run.published(progress)
        for caption in progress.captions:
            self.metrics.captions.labels(route.name, caption.status).inc()
        if progress.last:
            self.metrics.clips_done.labels(route.name).inc()
            log.info("Captioned in %d windows.", progress.next_window, extra=_fields(run))

    async def _feed(self, run: ClipRun, plan: ClipPlan, ahead: InOrder) -> Poison | Transient | None:
        """Start a request for each window; return what stopped it, if anything did."""
        try:
            async with aclosing(self.sampler.frame_sets(plan, run.next_window)) as windows:
                async for window in windows:
                    with self.metrics.windows_waiting.labels(run.clip.source).track_inprogress():
                        go_on = await self._slot_or_drain(window)
                    if not go_on:
                        break
                    request = asyncio.create_task(self._describe(run, window))
                    request.add_done_callback(partial(self._give_back, window))
                    ahead.put(request)
        except (Poison, Transient) as fault:
            return fault
        finally:
            ahead.end()
        return None

    async def _slot_or_drain(self, window: FrameSet | UnreadableWindow) -> bool:
        """Wait for a slot in the engine; False, with the window's bytes given back, when the program drains."""
        try:
            await self.engine_slots.acquire()
        except asyncio.CancelledError:
            self._release(window)
            raise
        if self.draining.is_set():
            self._give_back(window)
            return False
        return True

    def _give_back(self, window: FrameSet | UnreadableWindow, request: "asyncio.Task[Caption] | None" = None) -> None:
        """Give back a window's slot and bytes. Runs even for a request that was cancelled before it began."""
        if request is not None and not request.cancelled():
            request.exception()  # seen: when the engine dies, one clip's request tells it and nobody reads the others
        self.engine_slots.release()
        self._release(window)

    def _release(self, window: FrameSet | UnreadableWindow) -> None:
        if isinstance(window, FrameSet):
            self.sampler.release(window)

    async def _describe(self, run: ClipRun, window: FrameSet | UnreadableWindow) -> Caption:
        """Return one window's caption."""
        if isinstance(window, UnreadableWindow):
            return run.unreadable(window)
        run.in_engine += 1
        try:
            with self.metrics.in_engine(), tracing.span("describe window") as span:
                done = await self.engine.describe(window, run.settings.prompt, run.request_id(window.window))
                tracing.described(span, window, done)
        except EngineLost:
            self.note_suspects()
            raise
        finally:
            run.in_engine -= 1
        self.metrics.observe_window(run.clip.source, window, done)
        return run.caption(window, done)

    def note_suspects(self) -> None:
        """Remember which clips the engine held when it died, before their tasks are cancelled."""
        if self._suspects is None:
            self._suspects = [(run.delivery, route) for run, route in self._runs.items() if run.in_engine > 0]

    async def mark_suspects(self) -> None:
        """Make the quarantine durable, so that these clips run alone after the restart."""
        for delivery, route in self._suspects or ():
            log.warning("In flight when the engine died: it runs alone next.", extra={"clip_id": delivery.clip.clip_id})
            await route.quarantine(delivery)


def _fields(run: ClipRun) -> dict[str, object]:
    return {"clip_id": run.clip.clip_id, "source": run.clip.source, "window": run.next_window}
