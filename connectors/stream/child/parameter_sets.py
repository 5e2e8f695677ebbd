"""Parameter sets: what H.264 and HEVC say of their pictures, in front of a key frame or apart from it.

Inside the recorder all units of the two begin with start codes (Annex B). RTMP and MP4 put lengths in front of them.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

_START = b"\0\0\1"
_SETS = {"h264": {7, 8}, "hevc": {32, 33, 34}}  # SPS and PPS; VPS, SPS and PPS
_PICTURES = {"h264": range(1, 6), "hevc": range(32)}


def parameter_sets(codec: str, data: bytes) -> bytes:
    """Return the parameter sets in front of a packet's picture, in Annex B's form; nothing where there are none."""
    if codec not in _SETS or not data.startswith((_START, b"\0" + _START)):
        return b""
    found: dict[bytes, None] = {}
    at = data.find(_START)
    while at >= 0:
        following = data.find(_START, at + 3)
        unit = data[at + 3 : following if following >= 0 else len(data)]
        kind = _kind(codec, unit)
        if kind in _PICTURES[codec]:
            break
        if kind in _SETS[codec]:
            found[unit.rstrip(b"\0")] = None
        at = following
    kinds = {_kind(codec, unit) for unit in found}
    return b"".join(b"\0" + _START + unit for unit in found) if kinds >= _SETS[codec] else b""


def holds_sets(codec: str, data: bytes) -> bool:
    """Whether all kinds of a codec's parameter sets stand anywhere in a packet."""
    units = data.split(_START)[1:]
    return {_kind(codec, unit) for unit in units} >= _SETS[codec]


def with_sets(codec: str, extradata: bytes, data: bytes) -> bytes:
    """Return a segment's first packet with what its decoder needs in front, where it does not stand there."""
    if codec in _SETS:
        return data if parameter_sets(codec, data) else extradata + data
    return extradata + data if codec == "mpeg4" and extradata and not data.startswith(extradata) else data


@dataclass(frozen=True, slots=True)
class LengthPrefixed:
    """Units with their lengths in front, as ``avcC`` and ``hvcC`` say; their parameter sets stand there too."""

    length_bytes: int
    parameter_sets: bytes

    @classmethod
    def of(cls, codec: str, extradata: bytes) -> "LengthPrefixed | None":
        """Return the form that an extradata says; None where units begin with start codes."""
        at = 4 if codec == "h264" else 21
        if codec not in _SETS or len(extradata) < at + 2 or extradata[0] != 1:
            return None
        units = _of_avcc(extradata) if codec == "h264" else _of_hvcc(extradata)
        return cls((extradata[at] & 3) + 1, b"".join(b"\0" + _START + unit for unit in units))

    def start_coded(self, data: bytes) -> bytes:
        """Return a packet with start codes instead of lengths; what does not fit its length is cut."""
        at, found = 0, []
        while at + self.length_bytes < len(data):
            begin = at + self.length_bytes
            at = begin + int.from_bytes(data[at:begin], "big")
            found.append(data[begin:at])
        return b"".join(b"\0" + _START + unit for unit in found)


def _of_avcc(extradata: bytes) -> Iterator[bytes]:
    at = 5
    for mask in (0x1F, 0xFF):
        count = extradata[at] & mask if at < len(extradata) else 0
        at = yield from _units(extradata, at + 1, count)


def _of_hvcc(extradata: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at = yield from _units(extradata, at + 3, count)


def _units(extradata: bytes, at: int, count: int) -> Generator[bytes, None, int]:
    """Yield so many units, each behind its size, as far as they are there; return where they end."""
    for _ in range(count):
        if at + 2 > len(extradata):
            return len(extradata)
        size = int.from_bytes(extradata[at : at + 2], "big")
        yield extradata[at + 2 : at + 2 + size]
        at += 2 + size
    return at


def _kind(codec: str, unit: bytes) -> int:
    """Return what a unit is; -1 where its first byte is none of the codec's, or of a layer above the first."""
    if not unit or unit[0] & (0x80 if codec == "h264" else 0x81):
        return -1
    return unit[0] & 0x1F if codec == "h264" else unit[0] >> 1
