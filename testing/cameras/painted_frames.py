"""Frames of raw video that show their own number: sixteen blocks of light and dark. Imports nothing of ours."""

BITS, COLUMNS = 16, 8
LIGHT, DARK = 235, 20


def painted(number: int, width: int = 256, height: int = 144) -> bytes:
    """Return the frame of a number as I420, grey. ``width`` is a multiple of 16, ``height`` of 4."""
    rows = []
    for row in range(BITS // COLUMNS):
        bits = (number >> (row * COLUMNS + column) & 1 for column in range(COLUMNS))
        line = b"".join(bytes([LIGHT if bit else DARK]) * (width // COLUMNS) for bit in bits)
        rows.append(line * (height // 2))
    return b"".join(rows) + b"\x80" * (width * height // 2)


def number_of(luma) -> int:
    """Return the number that a frame shows, from its grey values as an array of two dimensions; -1 for none."""
    height, width = luma.shape
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        y, x = (2 * row + 1) * height // 4, (2 * column + 1) * width // (2 * COLUMNS)
        level = luma[y - 2 : y + 3, x - 2 : x + 3].mean()
        if 90 < level < 165:
            return -1
        number |= int(level > 127) << bit
    return number
