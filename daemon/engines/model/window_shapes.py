"""The shapes of the windows that a configuration will ask about, as far as they are known before any clip is.

Frames are taken to be 16:9: of 1920 x 1080, within ``limits.max_pixels``, what the model has a use for.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

from connectors.errors import Poison
from daemon.frame_look import FrameSize, FrameSizer, MaxFrameSize, PixelBudget

_ASPECT = 16 / 9
_NATIVE = MaxFrameSize(1920, 1080)  # cameras and screens give hardly more
SMALL = MaxFrameSize(64, 64)


@dataclass(frozen=True, slots=True)
class WindowShape:
    """A window's frames: how many, how high and how wide."""

    num_frames: int
    height: int
    width: int

    @property
    def size_bytes(self) -> int:
        """How many bytes its frames take."""
        return self.num_frames * self.height * self.width * 3

    def smaller(self) -> "WindowShape | None":
        """Return the same with frames of half the size; None where they would be hardly larger than a patch."""
        height, width = self.height // 2, self.width // 2
        return WindowShape(self.num_frames, height, width) if min(height, width) >= SMALL.height // 2 else None

    def __str__(self) -> str:
        frames = "1 frame" if self.num_frames == 1 else f"{self.num_frames} frames"
        return f"{frames} of {self.width} x {self.height}"


@dataclass(frozen=True, slots=True)
class ExpectedWindows:
    """The full windows of a configuration: their distinct numbers of frames, and the most that any window may have.

    ``max_pixels`` is what the sampler takes of a frame at most, and ``budgets`` are what frames may cost.
    """

    frame_counts: tuple[int, ...]
    max_frames: int
    max_pixels: int | None = None
    budgets: frozenset[PixelBudget] = frozenset({PixelBudget()})

    def __post_init__(self) -> None:
        if not self.frame_counts or max(self.frame_counts) > self.max_frames:
            raise ValueError(f"no windows are as {self}")

    def shapes(self, max_frame_size: MaxFrameSize | None, sized: FrameSizer) -> list[WindowShape]:
        """Return the shape of each distinct full window, the largest first; ``sized`` says how large frames are."""
        height, width = _size_of_a_frame(max_frame_size or _NATIVE, self.max_pixels)
        found = set()
        for count, budget in product(self.frame_counts, self.budgets):
            with suppress(Poison):  # the trial of the prompts says it, with the key
                size = sized(count, FrameSize(width, height), budget)
                found.add(WindowShape(count, size.height, size.width))
        return sorted(found, key=lambda shape: (-shape.num_frames, -shape.size_bytes))


def _size_of_a_frame(box: MaxFrameSize, max_pixels: int | None) -> tuple[int, int]:
    """Return the height and the width of the largest 16:9 frame in a box and within a number of pixels; both even."""
    width = min(box.width, box.height * _ASPECT)
    if max_pixels is not None:
        width = min(width, math.sqrt(max_pixels * _ASPECT))
    return max(2, int(width / _ASPECT) // 2 * 2), max(2, int(width) // 2 * 2)
