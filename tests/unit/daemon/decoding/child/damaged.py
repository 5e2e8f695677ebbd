"""Clips of which some pictures are damaged."""

from pathlib import Path


def damaged_copy(path: Path, folder: Path) -> Path:
    """Write an MP4 into ``folder`` with some bytes of its pictures changed, its packets where they were; return it."""
    data = bytearray(path.read_bytes())
    at, end = data.find(b"mdat"), data.rfind(b"moov")
    for place in range(at + (end - at) // 3, end - 8, (end - at) // 6):
        data[place : place + 3] = b"\xa5\x5a\xff"
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(data)
    return damaged
