"""The shapes of the windows that a configuration will ask about, as far as they are known before any clip is.

Frames are taken to be 16:9: as large as the model has a use for, else 1280 x 720, within ``limits.max_pixels``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from daemon.frame_look import MaxFrameSize

_ASPECT = 16 / 9
_NATIVE = MaxFrameSize(1280, 720)  # where frames go at native size, this is the commonest
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

    ``max_pixels`` is what the sampler takes of a frame at most.
    """

    frame_counts: tuple[int, ...]
    max_frames: int
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if not self.frame_counts or max(self.frame_counts) > self.max_frames:
            raise ValueError(f"no windows are as {self}")

    def shapes(self, max_frame_size: MaxFrameSize | None) -> Iterator[WindowShape]:
        """Yield the shape of each distinct full window, the largest first."""
        height, width = _size_of_a_frame(max_frame_size or _NATIVE, self.max_pixels)
        for count in sorted(set(self.frame_counts), reverse=True):
            yield WindowShape(count, height, width)


def _size_of_a_frame(box: MaxFrameSize, max_pixels: int | None) -> tuple[int, int]:
    """Return the height and the width of the largest 16:9 frame in a box and within a number of pixels; both even."""
    width = min(box.width, box.height * _ASPECT)
    if max_pixels is not None:
        width = min(width, math.sqrt(max_pixels * _ASPECT))
    return max(2, int(width / _ASPECT) // 2 * 2), max(2, int(width) // 2 * 2)
