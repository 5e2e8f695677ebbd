"""HEVC with Dolby Vision's messages, made by hand: no encoder at hand writes them."""

_DELIMITER, _MESSAGE = b"\0\0\0\1\x46\x01", b"\0\0\0\1\x7c\x01"  # of an access unit; of Dolby Vision


def with_messages(hevc: bytes, *, full_range: bool) -> bytes:
    """Return a stream that has access unit delimiters with a message behind each picture.

    Full range is what tells profile 5 from 8.
    """
    start, *units = hevc.split(_DELIMITER)
    return start + b"".join(_DELIMITER + unit + _MESSAGE + _message(full_range) for unit in units)


def _message(full_range: bool) -> bytes:
    """Return a message that changes no colour: one straight line for each component."""
    header = [(0x19, 8), (2, 6), (18, 11), (0, 4), (0, 4), (1, 1), (0, 1), (0, 2)]  # to coefficient_data_type
    header += [(24, 9), (1, 2), (full_range, 1)]  # 23 as Golomb code; normalised; the range
    depths = [(3, 3), (3, 3), (5, 5), (0, 1), (0, 3), (0, 1), (1, 1)]  # 10, 10 and 12 bits, no residual
    mapping = [(0, 1), (0, 1), (1, 1), (1, 1), (1, 1), *[(1, 1), (0, 10), (1023, 10)] * 3, (1, 1), (1, 1)]
    lines = [(1, 1), (1, 1), (0, 1), (1, 1), (0, 23), (2, 3), (0, 23)] * 3
    bits = "".join(f"{value:0{count}b}" for value, count in [*header, *depths, *mapping, *lines])
    bits += "0" * (-len(bits) % 8)
    raw = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)) + b"\x11\x22\x33\x44\x80"
    return _escaped(raw)


def _escaped(raw: bytes) -> bytes:
    out, zeros = bytearray(), 0
    for byte in raw:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
