"""A window's picture where it shows nothing to describe: black all over, or one picture that stands still."""

from typing import Literal

import numpy as np

from daemon.windows import FrameSet

_BLACK = 24  # the brightest that counts as black: video black with noise, out of 255
_BRIGHT_SHARE = 0.001  # of the pixels may be brighter: a clock or a logo in a corner is not all that is there to see
_STILL = 6  # how far a value may be from the first frame's: what coding the same picture again leaves
_MOVED_SHARE = 0.0001  # of the values may be further away


def look_at(frames: FrameSet) -> Literal["black", "frozen"] | None:
    """Return what is wrong with a window's picture; None where there is something to describe.

    A window of one frame does not stand still: nobody knows.
    """
    pixels = frames.frames
    if all(np.count_nonzero(frame > _BLACK) <= _BRIGHT_SHARE * frame.size for frame in pixels):
        return "black"
    if len(set(frames.pts_ns)) < 2:
        return None
    first = pixels[0].astype(np.int16)
    for frame in pixels[1:]:
        if np.count_nonzero(np.abs(frame - first) > _STILL) > _MOVED_SHARE * frame.size:
            return None
    return "frozen"
