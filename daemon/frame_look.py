"""The size and the look of the frames that a model gets, whichever they are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

ON_DEVICE = "av-device"  # the name of the decoder that is PyAV, with the graphics card where that can


@dataclass(frozen=True, slots=True)
class MaxFrameSize:
    """The largest frame that a model has a use for; larger ones are scaled down, and none is ever enlarged."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"no frame is as small as {self}")


@dataclass(frozen=True, slots=True)
class FrameSize:
    """The size of frames, in pixels, once they are upright and their pixels square."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height

    @property
    def frame_bytes(self) -> int:
        """Bytes of one RGB frame."""
        return self.pixels * 3

    def within(self, max_pixels: int | None) -> "FrameSize":
        """Return the same shape with at most so many pixels; None is no bound."""
        if max_pixels is None or self.pixels <= max_pixels:
            return self
        width = math.isqrt(max_pixels * self.width // self.height)
        height = math.isqrt(max_pixels * self.height // self.width)
        return FrameSize(min(max(1, width), max_pixels), min(max(1, height), max_pixels))


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """The most that frames may cost: pixels of a frame, vision tokens of a window, and tokens of a frame by itself.

    The last is how Qwen's authors say it: a frame's pixels in units of what one token covers, before frames are merged
    in time. None is no bound.
    """

    max_pixels: int | None = None
    max_vision_tokens: int | None = None
    max_frame_tokens: int | None = None


# the frames of a window, their own size, and what they may cost -> the size that they are scaled to
FrameSizer = Callable[[int, FrameSize, PixelBudget], FrameSize]


@dataclass(frozen=True, slots=True)
class Look:
    """The look of frames: the colour behind transparent pixels, and whether HDR is shown as SDR."""

    background: tuple[int, int, int] = (255, 255, 255)
    tone_map: bool = True
