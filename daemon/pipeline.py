"""The main loop: clips in, windows through the engine, captions out, in window order.

`Pipeline.run` takes deliveries while there are slots. `_bring_to_an_end` names every way a clip can end.
`_describe_clip` publishes a clip's windows in order while the feeder keeps the engine busy. Only `Route.publish`
acknowledges anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from connectors.contract import CaptionStatus, Clip, Delivery, Progress, Quarantine, Route
from connectors.errors import Poison, Transient
from daemon.alike_failures import AlikeFailures
from daemon.answers.watch import QualityWatch
from daemon.clip_task import ClipTask
from daemon.config.clip_settings import ClipSettings
from daemon.decoding.sampler import ClipPlan, Sampler
from daemon.engines.contract import Engine
from daemon.feed.observer import Observer, Unobserved
from daemon.quarantine import ClipsInFlight
from daemon.reorder import ReorderBuffer
from daemon.slots import ALL_NORMAL, FairSlots, Priorities
from daemon.telemetry import tracing
from daemon.telemetry.metrics import Metrics
from daemon.window_feeder import WindowFeeder

log = logging.getLogger(__name__)

_UNDESCRIBED = frozenset({CaptionStatus.ERROR, CaptionStatus.GAP, CaptionStatus.SKIPPED})

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
        in_flight: ClipsInFlight | None = None,
        alike: AlikeFailures | None = None,
        priorities: Priorities = ALL_NORMAL,
        observer: Observer | None = None,
    ) -> None:
        self.routes, self.sampler, self.engine, self.settings_of = routes, sampler, engine, settings_of
        self.slots = FairSlots(max_clips_in_flight, len(routes), priorities)
        self.max_attempts, self.metrics, self.alike = max_attempts, metrics, alike or AlikeFailures()
        self.draining = asyncio.Event()
        self.in_flight = in_flight or ClipsInFlight()
        self._quality = QualityWatch(metrics)
        self.observer = observer or Unobserved()
        self._feeder = WindowFeeder(
            sampler,
            engine,
            metrics,
            on_engine_lost=self.in_flight.engine_died,
            priorities=priorities,
            observer=self.observer,
        )

    async def run(self) -> None:
        """Caption what the routes deliver until every one of them ends; ``EngineLost`` when the engine dies."""
        with self.in_flight.recorded():
            async with asyncio.TaskGroup() as clips:
                for route in self.routes:
                    clips.create_task(self._take(route, clips), name=f"take {route.name}")
        self.alike.raise_if_paused()

    async def _take(self, route: Route, clips: asyncio.TaskGroup) -> None:
        """Take a source's clips; where its clips fail alike it pauses, and is begun again when that is asked for."""
        await self._take_all(route, clips)
        while await self.alike.begins_again(route):
            await self._take_all(route, clips)

    async def _take_all(self, route: Route, clips: asyncio.TaskGroup) -> None:
        async for delivered in route.deliveries():
            if not await self.alike.admit(route):
                delivered.clip.media.close()
                continue
            is_asked = delivered.clip.unasked is None
            delivery = await self.in_flight.recalled(delivered, route) if is_asked else delivered
            alone = delivery.position.quarantine > Quarantine.NONE
            with self.metrics.clips_waiting.labels(route.name).track_inprogress():
                await self.slots.acquire(route.name, alone=alone)  # a full pipeline asks for no further delivery
            clips.create_task(self.caption_clip(delivery, route), name=f"caption {delivery.clip.clip_id}")

    async def drain(self) -> None:
        """Take no further clip or window. What is in flight is finished and published; :meth:`run` then returns."""
        self.in_flight.stopping()
        self.draining.set()
        self._feeder.drain()
        self.alike.drain()
        for route in self.routes:
            await route.drain()

    async def caption_clip(self, delivery: Delivery, route: Route) -> None:
        """Caption one clip, from its first window that is not durable to one of its ends; its slot is free after it."""
        self.metrics.clip_taken(route.name, delivery.clip.media.size_bytes)
        try:
            first = delivery.position.next_window
            asked = delivery.clip.unasked is None
            recording = self.in_flight.recording(delivery.clip) if asked else nullcontext()
            with recording, tracing.clip_span(delivery.clip, first):
                await self._bring_to_an_end(delivery, route)
        finally:
            self.metrics.clips_in_flight.labels(route.name).dec()
            delivery.clip.media.close()
            self.slots.release(route.name)
            self.alike.ended(route.name)

    async def _bring_to_an_end(self, delivery: Delivery, route: Route) -> None:
        """Bring a clip to one of its ends.

        A caption for each window; a rejection, after the captions of what could be read, or for a stream's window a
        caption that says why; a stop, or a source that pauses, with the position kept; a dead engine, which ends the
        program.
        """
        clip, at = delivery.clip, delivery.position
        unplanned = partial(Progress.rejected, delivery, next_window=at.next_window, plan_hash=at.plan_hash or "")
        rejected: Callable[[Poison], Progress] = unplanned
        try:
            self.in_flight.refuse_killer(delivery)
            task = ClipTask(delivery, self.settings_of(clip), self.engine.model_id)
            rejected = task.rejected
            with self.in_flight.holding(task, route):
                await self._attempt(task, route)
        except Poison as fault:
            tracing.fault(fault)
            if clip.stream is not None:
                return await self._fail_window(delivery, fault, route)
            if not await self.alike.is_clips_own(clip, fault, route, self.slots):
                return
            progress = rejected(fault)
            fields = _fields(clip, progress.next_window)
            log.warning("Rejected as %s: %s.", fault.reason, fault.detail, extra=fields)
            self.metrics.clips_rejected.labels(route.name, fault.reason).inc()
            await route.publish(progress)
            self.observer.published(progress)
            self.in_flight.ended(delivery)

    async def _fail_window(self, delivery: Delivery, fault: Poison, route: Route) -> None:
        """Publish that a stream's window can't be described: a stream goes on, and no index is left out."""
        task = ClipTask(delivery, self.settings_of(delivery.clip), self.engine.model_id)
        log.warning("Not captioned, as %s: %s.", fault.reason, fault.detail, extra=_fields(delivery.clip, 0))
        await self._publish(task, route, task.advance(task.failed_windows(fault), last=True))

    async def _attempt(self, task: ClipTask, route: Route) -> None:
        """Describe a clip, and try it again where that may help; :class:`Poison` where it does not."""
        while not self.draining.is_set():
            try:
                return await self._describe_clip(task, route)
            except Transient as fault:
                tracing.fault(fault)
                task.failed(fault, self.max_attempts)
                self.metrics.clip_retries.labels(route.name, fault.reason).inc()
                log.warning("Trying again: %s.", fault.detail, extra=_fields(task.clip, task.next_window))
                await self._back_off(task.attempts)

    async def _back_off(self, attempts: int) -> None:
        pause = asyncio.timeout(BACK_OFF_S[min(attempts, len(BACK_OFF_S)) - 1])
        try:
            async with pause:
                await self.draining.wait()
        except TimeoutError:
            return

    async def _describe_clip(self, task: ClipTask, route: Route) -> None:
        """Publish the clip's windows in order, as they are done.

        1. The feeder puts windows into the engine while there are slots, and what stops it into the last batch.
        2. The finished windows at the head are published together; each publish moves the position.
        3. The last batch finishes the clip if it reaches the last window, else its fault is the clip's. With neither,
           the program drains and the position stays where it is.
        """
        if task.clip.unasked is not None:
            captions = task.unasked_windows(task.clip.unasked)
            return await self._publish(task, route, task.advance(captions, last=True))
        begun_s = time.monotonic()
        with self.metrics.stage(route.name, "plan"), tracing.span("plan"):
            plan = await self._plan(task)
        if task.clip.stream is not None:
            task.stages_ms["plan"] = (time.monotonic() - begun_s) * 1e3
        task.fit(len(plan.windows))
        task.media_start_ns = plan.media_start_ns
        buffer = ReorderBuffer(len(plan.windows) - task.next_window if plan.windows.is_complete else None)
        feeder = asyncio.create_task(self._feeder.feed(task, plan, buffer))  # 1
        try:
            async for batch in buffer.batches():
                reached = task.reached(batch.captions)
                is_end = plan.windows.is_complete and reached == len(plan.windows)
                finished = batch.last and batch.fault is None and is_end
                if finished:
                    plan.close()  # nothing of the clip is needed to publish its end
                if batch.captions or finished:
                    await self._publish(task, route, task.advance(batch.captions, last=finished))  # 2
                if batch.fault is not None:
                    raise batch.fault  # 3
        finally:
            try:
                if not (feeder.done() and buffer.is_empty):
                    await _wind_up(feeder, buffer)
            finally:
                plan.close()

    async def _plan(self, task: ClipTask) -> ClipPlan:
        """Return a clip's plan, whose windows are known up to the one to go on at."""
        settings = task.settings
        plan = await self.sampler.plan(task.clip, settings.windows, settings.frames, settings.decoder)
        try:
            await self.sampler.reach(plan, task.next_window)
        except BaseException:
            plan.close()
            raise
        return plan

    async def _publish(self, task: ClipTask, route: Route, progress: Progress) -> None:
        lent = self.slots.publishing(route.name) if progress.last else nullcontext()
        with self.metrics.stage(route.name, "publish"), tracing.span("publish"), lent:
            await route.publish(progress)
        task.published(progress)
        self.observer.published(progress)
        note = self.in_flight.ended if progress.last else self.in_flight.advanced
        note(progress.delivery)
        for caption in progress.captions:
            self.metrics.captions.labels(route.name, caption.status).inc()
        if task.settings.alarm is not None:
            self._quality.look(route.name, progress.captions, task.settings.alarm)
        if any(caption.status not in _UNDESCRIBED for caption in progress.captions):
            self.alike.captioned(route.name)
        if progress.last:
            self.metrics.clips_done.labels(route.name).inc()
            level = logging.INFO if task.clip.stream is None else logging.DEBUG  # a stream has one every few seconds
            log.log(level, "Captioned in %d windows.", progress.next_window, extra=_fields(task.clip, task.next_window))


async def _wind_up(feeder: "asyncio.Task[None]", buffer: ReorderBuffer) -> None:
    """End the feeding and abort the requests in flight.

    When an engine dies, another clip's task may cancel this one here: its requests end all the same.
    """

    async def end_both() -> None:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        await buffer.abandon()

    ending = asyncio.create_task(end_both())
    try:
        await asyncio.shield(ending)
    finally:
        await ending


def _fields(clip: Clip, window: int) -> dict[str, object]:
    return {"clip_id": clip.clip_id, "source": clip.source, "window": window}
