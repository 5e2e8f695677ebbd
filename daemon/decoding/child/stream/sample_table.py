"""The sample table of an MP4 or QuickTime file (ISO/IEC 14496-12, 8.6): its packets' times, without reading the media.

It is believed where FFmpeg, which makes its packets of the same table, gives the very same ones: at the table's start,
at its end, and wherever its own index is looked at between. Edits, fragments, damage and whatever else makes packets
differ from the table leave it aside, and every packet is read.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.child.containers import boxes
from daemon.decoding.child.pyav import packets_of
from daemon.decoding.media import MAX_FRAMES
from daemon.decoding.packet_index import KEY, SHOWN

_CODECS = ("h264", "hevc", "vp9", "av1")  # whose packets say nothing about time that the table does not
_LONGEST_TICKS = 2**31 - 1
_MAX_BOX_BYTES = 2**27
_FEW = 500  # packets that are as soon read as looked up
_READ = 48  # packets that are held against the table, at its start and at its end
_LOOKED_AT = 256  # entries of FFmpeg's index that are held against the table

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SampleTable:
    """The packets of one track in decoding order: ``int64[P]`` ticks and bytes, and ``uint8[P]`` flags."""

    pts: Ticks
    dts: Ticks
    durations: Ticks
    sizes: Ticks
    flags: NDArray[np.uint8]

    def is_packet(self, at: int, packet: Any) -> bool:
        """Return whether a packet is the one at a place."""
        expected = (self.pts[at], self.dts[at], self.durations[at], self.sizes[at], bool(self.flags[at] & KEY))
        found = (packet.pts, packet.dts, packet.duration, packet.size, bool(packet.is_keyframe))
        return bool(expected == found and not packet.is_discard and not packet.is_corrupt)


def has_sample_table(descriptor: int, container: Any, stream: Any, end_bytes: int) -> bool:
    """Return whether an open file's stream may have a table that makes reading it needless: it has not been read yet.

    ``end_bytes`` is where the last of its samples ends.
    """
    if not container.format.name.startswith("mov") or stream.codec.canonical_name not in _CODECS:
        return False
    is_whole = end_bytes <= os.fstat(descriptor).st_size and len(stream.index_entries) == stream.frames
    return is_whole and _FEW < stream.frames <= MAX_FRAMES


def sample_table(descriptor: int, container: Any, stream: Any) -> SampleTable | None:
    """Return the table; None where the packets have to be read, from a container that is opened anew."""
    try:
        raw = _read(descriptor, stream.id)
        first = next(packets_of(container, stream), None)
        if raw is None or len(raw.pts) != stream.frames or first is None or None in (first.pts, first.dts):
            return None
        table = replace(raw, pts=raw.pts - raw.pts[0] + first.pts, dts=raw.dts - raw.dts[0] + first.dts)
        return table if table.is_packet(0, first) and _agrees(table, container, stream) else None
    except Exception:  # whatever is not as it should be: then the packets themselves are read
        return None


def _agrees(table: SampleTable, container: Any, stream: Any) -> bool:
    """Return whether FFmpeg's index and its packets at both ends are those of the table."""
    count, entries = len(table.pts), stream.index_entries
    for at in {0, count - 1, *range(0, count, max(1, count // _LOOKED_AT))}:
        entry = entries[at]
        key = bool(table.flags[at] & KEY)
        same = (entry.timestamp, entry.size, entry.is_keyframe) == (table.dts[at], table.sizes[at], key)
        if not same or entry.is_discard:
            return False
    read = 1
    for at, packet in zip(range(1, _READ), packets_of(container, stream), strict=False):
        read += table.is_packet(at, packet)
    keys = np.flatnonzero(table.flags & KEY)
    at = int(keys[-1]) if len(keys) else 0
    container.seek(int(table.pts[at]), stream=stream, backward=True)
    packets = list(zip(range(at, min(at + _READ, count)), packets_of(container, stream), strict=False))
    return read == _READ and len(packets) > 0 and all(table.is_packet(at, packet) for at, packet in packets)


def _read(descriptor: int, track: int) -> SampleTable | None:
    """Return what the boxes of a track say, from the first sample's decoding time on; None where they are unusual."""
    size_bytes = os.fstat(descriptor).st_size
    for kind, start, end in boxes(descriptor, 0, size_bytes):
        if kind != b"moov" or end > size_bytes:
            continue
        parts = list(boxes(descriptor, start, end))
        if any(part == b"mvex" for part, _, _ in parts):
            return None
        for part, first, last in parts:
            if part == b"trak" and (table := _of_track(descriptor, first, last, track)) is not None:
                return table
    return None


def _of_track(descriptor: int, start: int, end: int, track: int) -> SampleTable | None:
    at = {kind: (first, last) for kind, first, last in boxes(descriptor, start, end)}
    header = os.pread(descriptor, 24, at[b"tkhd"][0])
    number = header[20:24] if header[:1] == b"\1" else header[12:16]
    if int.from_bytes(number, "big") != track:
        return None
    for name in (b"mdia", b"minf", b"stbl"):
        at = {kind: (first, last) for kind, first, last in boxes(descriptor, *at[name])}
    counts, steps = _columns(descriptor, at[b"stts"], 2).T
    durations = _repeated(np.minimum(steps, _LONGEST_TICKS), counts)
    dts = np.cumsum(durations) - durations
    sizes = _sizes(descriptor, at[b"stsz"])
    offsets = np.zeros(len(dts), np.int64)
    if b"ctts" in at:
        counts, signed = _columns(descriptor, at[b"ctts"], 2).T
        offsets = _repeated(signed.astype(np.uint32).view(np.int32).astype(np.int64), counts)
    flags = np.full(len(dts), SHOWN | (0 if b"stss" in at else KEY), np.uint8)
    if b"stss" in at:
        flags[_columns(descriptor, at[b"stss"], 1)[:, 0] - 1] |= KEY
    return SampleTable(dts + offsets, dts, durations, sizes, flags) if len(sizes) == len(offsets) == len(dts) else None


def _columns(descriptor: int, place: tuple[int, int], width: int, skip: int = 4) -> NDArray[np.int64]:
    """Return the entries of a box, ``int64[N, width]``: a count stands ``skip`` bytes from its start."""
    start, end = place
    data = os.pread(descriptor, min(end - start, _MAX_BOX_BYTES), start)
    count = int.from_bytes(data[skip : skip + 4], "big")
    return np.frombuffer(data, ">u4", count * width, skip + 4).reshape(count, width).astype(np.int64)


def _sizes(descriptor: int, place: tuple[int, int]) -> Ticks:
    head = os.pread(descriptor, 12, place[0])
    same, count = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    if same:
        return np.full(min(count, MAX_FRAMES), same, np.int64)
    return _columns(descriptor, place, 1, skip=8)[:, 0]


def _repeated(values: Ticks, counts: Ticks) -> Ticks:
    if counts.sum() > MAX_FRAMES:
        raise ValueError("more samples than a clip may have")
    return np.repeat(values, counts)
