"""A sampler for jobs that ask several questions about one clip: its frames are read once and shown for each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.contract import Clip
from daemon.decoding.sampler import ClipPlan, Sampler, UnreadableWindow
from daemon.windows import FramePolicy, FrameSet, WindowPolicy

MEDIA = "media"  # the attribute of a clip that names its media


@dataclass(eq=False)
class _Reading:
    """A clip that was read. ``left`` questions about it are not done yet; ``lent`` of them hold its frames now."""

    media: str
    plan: ClipPlan
    shown: FrameSet | UnreadableWindow
    left: int
    lent: int = 0


class SharedSampler(Sampler):
    """A :class:`daemon.decoding.sampler.Sampler` for clips of one window and one policy.

    ``questions`` is the number of clips with each name in their attribute ``media``. Where more of them come, as after
    a failure, the media is read again. The bytes of its frames are held until the last question is done, so questions
    about the same media should follow each other.
    """

    def __init__(self, *arguments: Any, questions: Mapping[str, int], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._questions = dict(questions)
        self._reading: dict[str, asyncio.Task[_Reading]] = {}
        self._by_plan: dict[ClipPlan, _Reading] = {}
        self._by_frames: dict[FrameSet, _Reading] = {}

    async def plan(self, clip: Clip, windows: WindowPolicy, frames: FramePolicy, decoder: str = "av") -> ClipPlan:
        """Return the clip's plan once its frames are read; an error of reading it is raised here."""
        media = clip.attributes[MEDIA]
        if media not in self._reading:
            self._reading[media] = asyncio.create_task(self._read(clip, windows, frames, decoder))
        task = self._reading[media]
        try:
            reading = await asyncio.shield(task)
        except Exception:
            self._forget(media, task)  # the next question about it tries again
            raise
        reading.lent += 1
        return reading.plan

    async def _read(self, clip: Clip, windows: WindowPolicy, frames: FramePolicy, decoder: str) -> _Reading:
        plan = await super().plan(clip, windows, frames, decoder)
        try:
            async with contextlib.aclosing(super().frame_sets(plan)) as sets:
                (shown,) = [window async for window in sets]
        finally:
            plan.close()
        media = clip.attributes[MEDIA]
        reading = _Reading(media, plan, shown, self._questions.pop(media, 1))
        self._by_plan[plan] = reading
        if isinstance(shown, FrameSet):
            self._by_frames[shown] = reading
        return reading

    async def frame_sets(
        self, plan: ClipPlan, first_window: int = 0
    ) -> AsyncGenerator[FrameSet | UnreadableWindow, None]:
        """Yield the clip's one window."""
        reading = self._by_plan[plan]
        if first_window == 0:
            yield reading.shown
        if not isinstance(reading.shown, FrameSet):
            self._give_back(reading)

    def release(self, frame_set: FrameSet, *, let_go: bool = False) -> None:
        """Take the frames back; their bytes are free, and the pixels may go, when no question is left."""
        reading = self._by_frames[frame_set]
        if self._give_back(reading):
            del self._by_frames[frame_set]
            super().release(frame_set, let_go=let_go)

    def _give_back(self, reading: _Reading) -> bool:
        """Count a question as done; return whether it was the last one that held the clip."""
        reading.left -= 1
        reading.lent -= 1
        if reading.left > 0:
            return False
        self._forget(reading.media, None)
        if reading.lent > 0:
            return False
        del self._by_plan[reading.plan]
        return True

    def _forget(self, media: str, task: "asyncio.Task[_Reading] | None") -> None:
        if task is None or self._reading.get(media) is task:
            self._reading.pop(media, None)

    async def close(self) -> None:
        """End the decoding children."""
        for task in self._reading.values():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await super().close()
