"""The numbers and colours painted into the inputs from the field, read back from the pixels of a frame.

Every picture shows its frame's number in sixteen blocks, eight in a row, and below them a strip that is red on the left
and blue on the right. Pictures of 32 x 64 pixels are made of two fields, and each field's lines show four blocks.
"""

import numpy as np
from numpy.typing import NDArray

from tests.corpus import painted

_MACROBLOCK, _COLUMNS = 16, 2
SMALL = (64, 32)  # height and width of the pictures that show eight blocks alone


def number_of(frame: NDArray[np.uint8]) -> int:
    """Return the number that ``uint8[H, W, 3]`` shows the right way up, at any size; -1 when it shows none."""
    if frame.shape[:2] == SMALL:
        return _number_of_fields(frame)
    return int(painted.read(frame))


def strip_of(frame: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean colours of the strip's left and right half."""
    left, right = painted.strip_colours(frame)
    return left, right


def is_upright(frame: NDArray[np.uint8]) -> bool:
    """Return whether the strip is red on the left and blue on the right."""
    left, right = strip_of(frame)
    return bool(left[0] > left[2] and right[2] > right[0])


def _number_of_fields(frame: NDArray[np.uint8]) -> int:
    number = 0
    for bit in range(8):
        field, block = divmod(bit, 4)
        row, column = divmod(block, _COLUMNS)
        y, x = row * _MACROBLOCK, column * _MACROBLOCK
        level = frame[field::2][y + 4 : y + 12, x + 4 : x + 12].mean()
        if 90 < level < 165:
            return -1
        number |= int(level > 127) << bit
    return number
