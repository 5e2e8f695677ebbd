"""Strips: the frames of a window, small and side by side in one JPEG, made within a budget of processor time."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from daemon.windows import FrameSet

HEIGHT_PX = 72
MOST_FRAMES = 8  # of a window with more, these are spread over it
_WIDTHS_PX = (24, 192)  # of one frame: a very tall or wide one is squeezed
_QUALITY = 72
_FINER = 1.5  # than the picture: what frames are thinned out to. Twice as fine costs twice as much and looks the same

LOOKED_AT, UNSEEN = 0.02, 0.005  # shares of one core: while somebody has the page open, and while nobody has
_SAVED_UP_S = 0.1  # of processor time: some fifty strips at once after a quiet while


@dataclass(frozen=True, slots=True)
class Strip:
    """A strip: so many frames of the same width, side by side."""

    jpeg: bytes = field(repr=False)
    frames: int
    width_px: int


def strip_of(frames: FrameSet) -> Strip:
    """Return the strip of a window's frames. It takes about a millisecond.

    Frames are thinned out before they are scaled, so that the cost hardly depends on their size.
    """
    count, height, width, _ = frames.frames.shape
    shown = [index * count // min(count, MOST_FRAMES) for index in range(min(count, MOST_FRAMES))]
    narrow, wide = _WIDTHS_PX
    width_px = min(max(round(HEIGHT_PX * width / height), narrow), wide)
    step = max(1, int(min(height / HEIGHT_PX, width / width_px) / _FINER))
    strip = Image.new("RGB", (width_px * len(shown), HEIGHT_PX))
    for place, index in enumerate(shown):
        thinned = Image.fromarray(np.ascontiguousarray(frames.frames[index, ::step, ::step]))
        strip.paste(thinned.resize((width_px, HEIGHT_PX), Image.Resampling.BOX), (place * width_px, 0))
    written = io.BytesIO()
    strip.save(written, "JPEG", quality=_QUALITY)
    return Strip(written.getvalue(), len(shown), width_px)


@dataclass
class ProcessorBudget:
    """A share of one core's time, of which a little can be saved up."""

    clock: Callable[[], float] = time.monotonic
    left_s: float = _SAVED_UP_S
    _looked_s: float | None = None

    def affords(self, share: float) -> bool:
        """Return whether any time is left, when ``share`` of what passed since the last call is added."""
        now_s = self.clock()
        if self._looked_s is not None:
            self.left_s = min(self.left_s + share * (now_s - self._looked_s), _SAVED_UP_S)
        self._looked_s = now_s
        return self.left_s > 0

    def spend(self, seconds: float) -> None:
        """Take note of what was used."""
        self.left_s -= seconds
