"""The windows that each family is asked about: one frame, odd and even counts, repeated frames, portrait, tiny."""

from dataclasses import dataclass, replace

import numpy as np

from daemon.windows import FrameSet
from tests.windows_of_noise import noise


@dataclass(frozen=True)
class Shape:
    """A window's shape. With ``repeated``, each second frame is the one before once more: the clip has fewer."""

    num_frames: int
    height: int
    width: int
    repeated: bool = False

    def __str__(self) -> str:
        return f"{self.num_frames}x{self.width}x{self.height}{'-repeated' if self.repeated else ''}"

    def window(self, seed: int = 0) -> FrameSet:
        """Return a window of noise; every second frame of a repeated one is the one before."""
        window = noise(self.num_frames, self.height, self.width, seed=seed)
        if not self.repeated:
            return window
        first = np.arange(self.num_frames) // 2 * 2
        return replace(window, frames=window.frames[first], pts_ns=tuple(window.pts_ns[k] for k in first))


SHAPES = (
    Shape(1, 56, 56),
    Shape(1, 120, 160),
    Shape(2, 120, 160),
    Shape(3, 64, 112),
    Shape(4, 56, 84),
    Shape(5, 160, 90),
    Shape(6, 90, 160),
    Shape(7, 100, 100),
    Shape(8, 64, 112),
    Shape(8, 112, 64, repeated=True),
    Shape(5, 84, 84, repeated=True),
    Shape(2, 32, 32),
)
ASKED = (SHAPES[0], SHAPES[4], SHAPES[5], SHAPES[9])  # those whose answers are compared
