"""Frames that carry their own number: a bar code of sixteen blocks that survives any codec, scaling and turning."""

import numpy as np

WIDTH, HEIGHT = 256, 144
_BITS, _COLUMNS = 16, 8
_TOP = (_BITS // _COLUMNS) * 48  # two rows of 48 lines; the strip below tells left from right and shows colour
LEFT_RGB, RIGHT_RGB = (200, 30, 30), (30, 30, 200)


def paint(number, width=WIDTH, height=HEIGHT):
    """Return ``uint8[H, W, 3]`` that shows ``number``."""
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(_BITS):
        row, column = divmod(bit, _COLUMNS)
        level = 235 if number >> bit & 1 else 20
        canvas[row * 48 : row * 48 + 48, column * 32 : column * 32 + 32] = level
    canvas[_TOP:, : WIDTH // 2] = LEFT_RGB
    canvas[_TOP:, WIDTH // 2 :] = RIGHT_RGB
    rows = np.arange(height) * HEIGHT // height
    columns = np.arange(width) * WIDTH // width
    return canvas[rows][:, columns]


def read(frame):
    """Return the number that a frame shows, upright and at any size; -1 when it shows none."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(_BITS):
        row, column = divmod(bit, _COLUMNS)
        y, x = (row * 48 + 24) * height // HEIGHT, (column * 32 + 16) * width // WIDTH
        level = frame[y - 2 : y + 3, x - 2 : x + 3].mean()
        if 90 < level < 165:
            return -1
        number |= (level > 127) << bit
    return number


def strip_colours(frame):
    """Return the mean colours of the strip's left and right half, as two ``float[3]``."""
    height, width = frame.shape[:2]
    lines = frame[(_TOP + 16) * height // HEIGHT : (_TOP + 32) * height // HEIGHT]
    return lines[:, width // 8 : 3 * width // 8].mean((0, 1)), lines[:, 5 * width // 8 : 7 * width // 8].mean((0, 1))
