"""Windows that show what the last described one showed, told apart by small grey pictures of their frames.

Windows are looked at in their order, before the engine is asked, so which of them are unchanged does not depend on when
answers come. Whoever starts in the middle of a clip has nothing to compare with, and asks first.
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectors.contract import Caption, CaptionStatus
from daemon.content.spans import UnchangedPolicy
from daemon.windows import FrameSet

_COLUMNS, _ROWS, _BLOCK = 64, 36, 4  # of a small picture, and the pixels of a block's edge: 16 x 9 blocks
_MOST_WAITING = 6  # windows that hold their frames until the answer comes that may be theirs
_REPEATED = (CaptionStatus.SUCCESS, CaptionStatus.TRUNCATED)  # a caption that is none of these is asked for again

Thumbnails = NDArray[np.int16]


@dataclass(slots=True, eq=False)
class Described:
    """A window that the engine is asked about. ``answer`` are its captions, as soon as they come."""

    start_ns: int
    pictures: Thumbnails = field(repr=False)
    answer: "asyncio.Task[list[Caption]] | None" = None
    waiting: int = 0

    async def captions(self) -> list[Caption]:
        """Wait for the captions and return them; none where one of them is not worth repeating, or never came."""
        if self.answer is None:
            return []
        await asyncio.wait({self.answer})
        return self._good()

    @property
    def has_failed(self) -> bool:
        """Whether it is known that nothing is to be repeated."""
        return self.answer is None or (self.answer.done() and not self._good())

    def _good(self) -> list[Caption]:
        if self.answer is None or self.answer.cancelled() or self.answer.exception() is not None:
            return []
        captions = self.answer.result()
        return captions if all(one.status in _REPEATED for one in captions) else []


class LastDescribed:
    """The window of a clip that the engine was asked about last. One for each pass over a clip's windows."""

    def __init__(self, policy: UnchangedPolicy | None) -> None:
        self._policy = policy
        self._last: Described | None = None

    async def same_as(self, frames: FrameSet) -> Described | None:
        """Return the described window that the next one is the same as; None where the engine is to be asked."""
        if self._policy is None:
            return None
        pictures, start_ns = await asyncio.to_thread(thumbnails, frames), frames.window.start_ns
        last = self._last
        if last is not None and last.waiting >= _MOST_WAITING:
            await last.captions()
        if (
            last is not None
            and not last.has_failed
            and start_ns - last.start_ns < self._policy.max_age_ns
            and difference(last.pictures, pictures) < self._policy.threshold
        ):
            return last
        self._last = Described(start_ns, pictures)
        return None

    def asked(self, answer: "asyncio.Task[list[Caption]]") -> None:
        """Take note of the request about the window that was looked at last."""
        if self._last is not None:
            self._last.answer = answer


def thumbnails(frames: FrameSet) -> Thumbnails:
    """Return small grey pictures of a window's frames, ``int16[N, 36, 64]``."""
    from PIL import Image  # which nobody else of the daemon loads at its start

    small = (
        Image.fromarray(frame).resize((_COLUMNS, _ROWS), Image.Resampling.BOX).convert("L") for frame in frames.frames
    )
    return np.stack([np.asarray(picture, np.int16) for picture in small])


def difference(one: Thumbnails, other: Thumbnails) -> float:
    """Return by how many of 255 steps two windows differ, frame by frame, in the block that differs most.

    The block, a sixteenth of the width and a ninth of the height, is small enough that a thing that moves in a corner
    counts, and large enough that noise does not. Of windows of different length, frames at the same share are compared.
    """
    if len(one) != len(other):
        one = one[np.arange(len(other)) * len(one) // len(other)]
    apart = np.abs(one - other).reshape(len(other), _ROWS // _BLOCK, _BLOCK, _COLUMNS // _BLOCK, _BLOCK)
    return float(apart.mean((2, 4)).max())
