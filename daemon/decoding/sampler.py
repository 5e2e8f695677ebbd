"""The sampler turns clips into frame sets, in decoding children, window by window and never far ahead.

The bytes of a window are reserved before it is decoded.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial

from connectors.contract import Clip
from connectors.errors import Fatal, Poison, Reason, Transient
from connectors.media.protocols import DistantMedia
from daemon.config.chosen import this_machine
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.budgets import ByteBudget, DecodeTime
from daemon.decoding.clip_plan import (
    ClipPlan,
    PlanRules,
    early_end,
    index_need,
    read_index,
    readable_windows,
)
from daemon.decoding.fields import Data
from daemon.decoding.index_block import ClipTimes
from daemon.decoding.media import MediaLimits
from daemon.decoding.open_media import OpenMedia
from daemon.decoding.pool import DecoderPool, Sender, Session
from daemon.decoding.protocol import Decoded, Index, Plan, Planned, SendIndex, reading
from daemon.decoding.shot_search import find_windows
from daemon.decoding.window_memory import WindowMemory
from daemon.decoding.window_run import UnreadableWindow, WindowRun, check_fits
from daemon.frame_look import ON_DEVICE, FrameSize, FrameSizer, PixelBudget
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy

_INDEX_SHARE = 8  # of the bytes for frames, this part is for the indices of clips
_RENDERED_SHARE = 4  # of the memory, this part is for what the engine holds of windows that it has not answered
_SMALL_BYTES = 64 * 2**10  # a clip up to this size is decoded in some milliseconds
_MANY_PACKETS = 15_000  # whose times are read in a few milliseconds
_MANY_WINDOWS = 1_000  # which are looked through in 50 ms
_KEPT_SIZES = 1_000  # of clips and their budgets, whose windows' sizes are remembered

__all__ = ["ClipPlan", "Sampler", "UnreadableWindow"]


class Sampler:
    """Turns clips into frame sets in child processes. ``sizer`` says to what size a window's frames are scaled.

    ``frame_bytes`` is what frames may take of ``limits.in_flight_bytes``: all of it where nothing else is said. A part
    of it is for the indices of clips in flight. A clip reserves its index once and before its windows, and whoever has
    one needs frames alone to come to its end, so neither part waits for the other.
    """

    def __init__(
        self,
        limits: LimitsSettings,
        timeouts: TimeoutsSettings,
        sizer: FrameSizer | None = None,
        frame_bytes: int | None = None,
    ) -> None:
        self._limits, self._deadline_s = limits, timeouts.decode_deadline_s
        self.scale_by(sizer)
        both_bytes = frame_bytes or limits.in_flight_bytes
        self.index_budget = ByteBudget(max(both_bytes // _INDEX_SHARE, 1))
        self.budget = ByteBudget(both_bytes - both_bytes // _INDEX_SHARE)
        self.memory = WindowMemory(self.budget)
        self.rendered_budget = ByteBudget(limits.rendered_bytes or this_machine().memory_bytes // _RENDERED_SHARE)
        self.shares_frames = False  # whether other processes read them: then a descriptor comes with them
        self.windows_for_device: dict[str, int] = {}  # where a graphics card was asked for: by what decoded them
        required = limits.sandbox == "required"
        self.pool = DecoderPool(limits.decoders, limits.decoder_memory_bytes, required=required)
        self._media_limits = MediaLimits(
            limits.max_pixels, limits.max_duration_s, max_picture_pixels=limits.max_picture_pixels
        )

    def scale_by(self, sizer: FrameSizer | None) -> None:
        """Scale the frames of clips planned from now on by this rule; None leaves them as they are."""
        self._sizer = sizer
        self._sizes: dict[tuple[FrameSize, PixelBudget], dict[int, FrameSize]] = {}  # what it said of clips before

    async def start(self) -> None:
        """Start the decoding children; :class:`Fatal` when one does not come up, for nothing could be read."""
        try:
            await self.pool.start()
        except Transient as fault:
            raise Fatal(f"a decoder does not start: {fault.detail}") from fault

    async def close(self) -> None:
        """End the decoding children, cancelled or not. Plans that are still open must be closed by their owners."""
        closing = asyncio.create_task(self.pool.close(), name="end the decoders")
        try:
            await asyncio.shield(closing)
        finally:
            self.memory.close_all()
            await asyncio.wait([closing])

    async def plan(self, clip: Clip, windows: WindowPolicy, frames: FramePolicy, decoder: str = "av") -> ClipPlan:
        """Open the clip and return its windows. The plan's owner closes it.

        Raises :class:`Poison` for a clip that can't be captioned at all and :class:`Transient` when the decoder failed.
        """
        if isinstance(clip.media, DistantMedia):
            await clip.media.fetch()
        media = OpenMedia.open(clip.media, self._limits.max_clip_bytes)
        time = DecodeTime.of_size(media.size_bytes, self._limits.decode_s_per_clip_minute)
        session = self.pool.open(media.descriptor, Sender(clip.source, decoder, windows.shots is not None), time)
        try:
            how = reading(self._media_limits, frames.look)
            request = Plan(session.number, decoder, threads=self._threads(media), **how)
            try:
                planned, block = await self.pool.ask(session, lambda _: (request, []), Planned, self._deadline_s)
            except (Poison, Transient):
                media.check_unchanged()
                raise
            session.index = await self._index(planned, block, session)
            plan = await self._planned(planned, media, session, PlanRules(windows, frames, clip.span_ns))
            time.grant(plan.duration_ns / NS_PER_S, self._limits.decode_s_per_clip_minute)
            return plan
        except BaseException:
            self._let_go(session)
            media.close()
            raise

    async def reach(self, plan: ClipPlan, windows: int | None = None) -> bool:
        """Have so many windows known, or all, of a plan that follows shots; return whether the clip has so many.

        Raises what :meth:`frame_sets` does.
        """
        first = len(plan.windows)
        await find_windows(self.pool, plan, windows, self._deadline_s)
        if len(plan.windows) > first:
            check_fits(plan, self.budget.limit_bytes, first)
        return windows is None or len(plan.windows) >= windows

    def _let_go(self, session: Session) -> None:
        self.pool.close_session(session)
        self.index_budget.release(session.reserved_bytes)
        session.reserved_bytes = 0

    async def _index(self, planned: Planned, block: Data, session: Session) -> Data:
        """Reserve what a clip's index takes, and then read it; a small one has come with the plan."""
        need = index_need(planned, self.index_budget.limit_bytes)
        await self.index_budget.reserve(need)
        session.reserved_bytes, session.index_bytes = need, planned.index_bytes
        if not block:
            _, block = await self.pool.ask(session, partial(_ask_for_index, session), Index, self._deadline_s)
        return block

    async def _planned(self, planned: Planned, media: OpenMedia, session: Session, asked: PlanRules) -> ClipPlan:
        """Return the plan that a child's answer means. One that makes no sense ends the child."""
        try:
            keyframes = asked.frames.snap == "keyframe"
            read = partial(read_index, planned, session.index, self._media_limits, keyframes=keyframes)
            many = planned.packets > _MANY_PACKETS  # hours of video, or a child that says so: others go on meanwhile
            times = await asyncio.to_thread(read) if many else read()
        except Transient:
            await self.pool.distrust(session)
            raise
        plan = self._plan_of(planned, times, media, session, asked)
        if plan.sized is not None and not plan.is_sized:
            # a model's processor is asked, which may take as long as a window takes it
            await asyncio.to_thread(plan.size_windows)
        if len(plan.windows) > _MANY_WINDOWS:
            await asyncio.to_thread(check_fits, plan, self.budget.limit_bytes)
        else:
            check_fits(plan, self.budget.limit_bytes)
        return plan

    def _plan_of(
        self, planned: Planned, times: ClipTimes, media: OpenMedia, session: Session, asked: PlanRules
    ) -> ClipPlan:
        fault = early_end(times, planned.truncated, planned.failure, planned.declared_s)
        return ClipPlan(
            times.duration_ns,
            readable_windows(times, asked.windows, asked.frames, fault, asked.span_ns),
            *(planned.width, planned.height, planned.codec, planned.container),
            times.pts_ns,
            planned.media_start_ns,
            planned.mended,
            fault if asked.span_ns is None else None,  # what is there of a part of something longer is all of it
            self._media_limits,
            media,
            session,
            self._let_go,
            asked.span_ns is not None,
            asked.frames.look,
            *self._sized(asked.frames, FrameSize(planned.width, planned.height)),
        )

    def _sized(
        self, frames: FramePolicy, own: FrameSize
    ) -> tuple[Callable[[int, FrameSize], FrameSize] | None, dict[int, FrameSize]]:
        """Return the rule for a clip's sizes, and those that are known from clips like it, to be added to.

        NeVA's frames are as they are, unless they are given a budget.
        """
        sizer, budget = self._sizer, frames.budget
        if sizer is None or (frames.rule == "neva" and budget == PixelBudget()):
            return None, {}
        if len(self._sizes) >= _KEPT_SIZES:
            self._sizes.clear()
        return lambda count, size: sizer(count, size, budget), self._sizes.setdefault((own, budget), {})

    async def frame_sets(
        self, plan: ClipPlan, first_window: int = 0
    ) -> AsyncGenerator[FrameSet | UnreadableWindow, None]:
        """Yield the windows in order from ``first_window``; close the iterator when it is left early.

        Raises, after the last window that can be read, :class:`Poison` where the clip can't be read further, and
        :class:`Transient` where the decoder failed. The bytes of what was yielded are the caller's to release.
        """
        run = WindowRun(plan, first_window, self.memory, self.shares_frames)
        task = asyncio.create_task(self._produce(run))
        try:
            while (window := await run.take()) is not None:
                yield window
        finally:
            task.cancel()
            try:
                await asyncio.gather(task, return_exceptions=True)
            finally:
                run.close()

    def release(self, frame_set: FrameSet, *, let_go: bool = False) -> None:
        """Give a frame set's bytes back to the budget, once; with ``let_go`` its pixels go though it is still held."""
        self.budget.release(frame_set.frames.nbytes)
        if let_go:
            frame_set.let_go()

    async def _produce(self, run: WindowRun) -> None:
        """Decode the windows one after the other into ``run.results``; None, the plan's fault or an error ends them."""
        plan = run.plan
        try:
            while await self.reach(plan, run.at + 1):
                await run.reserve()
                await self._decode(run)
            if run.unreadable and plan.fault is None:
                start_s = run.unreadable[0].window.start_ns / NS_PER_S
                raise Poison(Reason.CORRUPT, f"no frame can be decoded from {start_s:.2f} s on")
            run.results.put_nowait(plan.fault)
        except Exception as error:
            run.results.put_nowait(error)

    def _threads(self, media: OpenMedia) -> int:
        """Return how many threads may decode a clip; those of a small one would wait for each other more than work."""
        return self.pool.threads if media.size_bytes > _SMALL_BYTES else 1

    async def _decode(self, run: WindowRun) -> None:
        """Have the next windows decoded, as many as there is room for once it is the clip's turn."""
        plan, request = run.plan, partial(run.request, self._threads(run.plan.media))

        def take(decoded: Decoded) -> bool:
            if plan.session.sender.decoder == ON_DEVICE:
                by = "device" if decoded.on_device else "processor"
                self.windows_for_device[by] = self.windows_for_device.get(by, 0) + 1
            return run.answered(decoded)

        try:
            await self.pool.ask(plan.session, request, Decoded, self._deadline_s, take)
        except (Poison, Transient):
            plan.media.check_unchanged()
            raise


def _ask_for_index(session: Session, is_open: bool) -> tuple[SendIndex, list[int]]:
    if not is_open:
        raise Transient("the decoder died before it sent the index", reason=Reason.DECODER_DIED, origin="sampler")
    return SendIndex(session.number), []
