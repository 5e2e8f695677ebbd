"""Truncation: a file that ends before its container does, by the container's own tables and sizes, never by durations.

A table of samples has the last word: where all that it lists lies in the file, whatever else is missing or added.
"""

import os
import struct
from collections.abc import Iterator

from daemon.decoding.child.containers import boxes

_MAX_PARTS = 100_000  # a fragmented film of a day at two boxes a second stays below the bound
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"styp", b"skip", b"uuid", b"pnot", b"sidx", b"moof")
_MEDIA_BOXES = (b"moov", b"mdat", b"moof")  # others behind the last of them are trailers
_EBML, _SEGMENT, _CLUSTER = b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x1fC\xb6u"
_SEEK_HEAD, _CUES = b"\x11M\x9bt", b"\x1cS\xbbk"
_SEEK, _SEEK_POSITION, _CUE_POINT, _CUE_POSITIONS, _CUE_CLUSTER = b"M\xbb", b"S\xac", b"\xbb", b"\xb7", b"\xf1"
_MAX_TABLE_BYTES = 2**24


def is_truncated(descriptor: int, size_bytes: int, table_end: int = 0) -> bool:
    """Return whether the container says that the file is longer than ``size_bytes``.

    ``table_end`` is where the last sample of the stream ends by an MP4 file's table, 0 where it is not known. False for
    MPEG transport and program streams, which may end anywhere, and for images, which do not say.
    """
    head = os.pread(descriptor, 64, 0)
    if head[4:8] in _BOXES:
        return _boxes_are_truncated(descriptor, size_bytes, table_end)
    if head[:4] == _EBML:
        return _segment_is_truncated(descriptor, head, size_bytes)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _chunks_are_truncated(descriptor, size_bytes)
    if head[:4] == b"FLV\1":
        return _tags_are_truncated(descriptor, size_bytes)
    return head[:4] == b"\x06\x0e+4" and _partitions_are_truncated(descriptor, size_bytes)


def _boxes_are_truncated(descriptor: int, size_bytes: int, table_end: int) -> bool:
    """Walk the boxes of an MP4 or QuickTime file; a movie box that is whole and in no fragments lists every sample."""
    if table_end > size_bytes:
        return True
    has_movie = in_fragments = False
    over = 0
    for count, (kind, start, end) in enumerate(boxes(descriptor, 0, size_bytes)):
        if kind == b"moov" and end <= size_bytes:
            has_movie = True
            in_fragments = any(part == b"mvex" for part, _, _ in boxes(descriptor, start, end))
        elif kind == b"sidx":
            over = max(over, _end_of_segments(descriptor, start, end))
        if kind in _MEDIA_BOXES:
            over = max(over, end)
        if count == _MAX_PARTS:
            break
    if not has_movie:
        return True
    return over > size_bytes if in_fragments or not table_end else False


def _end_of_segments(descriptor: int, start: int, end: int) -> int:
    """Return where the last segment ends that a segment index lists (ISO/IEC 14496-12, 8.16.3)."""
    data = os.pread(descriptor, min(end - start, _MAX_TABLE_BYTES), start)
    wide = data[:1] == b"\1"
    offset = int.from_bytes(data[20:28] if wide else data[16:20], "big")
    at = 28 if wide else 20
    count = int.from_bytes(data[at + 2 : at + 4], "big")
    sizes = (int.from_bytes(data[at + 4 + 12 * k : at + 8 + 12 * k], "big") & 0x7FFFFFFF for k in range(count))
    return end + offset + sum(sizes)


def _segment_is_truncated(descriptor: int, head: bytes, size_bytes: int) -> bool:
    """Read the size of the Matroska segment; where that is unknown, what its first elements say of later ones."""
    header_bytes, at = _element_size(head, 4)
    if header_bytes is None:
        return False
    at += header_bytes
    if at + 12 > size_bytes:  # the segment's own header is not whole
        return True
    head = os.pread(descriptor, 16, at)
    if head[:4] != _SEGMENT:
        return False
    segment_bytes, content = _element_size(head, 4)
    content += at
    if segment_bytes is not None:
        return content + segment_bytes > size_bytes
    return any(content + place >= size_bytes for place in _places_named(descriptor, content, size_bytes))


def _places_named(descriptor: int, at: int, size_bytes: int) -> Iterator[int]:
    """Yield the places in the segment that its seek head and its cues name, as far as they stand before the frames."""
    first = at
    for _ in range(_MAX_PARTS):
        head = os.pread(descriptor, 12, at)
        length, content = _element_size(head, 4)
        if len(head) < 12 or head[:4] == _CLUSTER or length is None or length > _MAX_TABLE_BYTES:
            return
        content += at
        if head[:4] in (_SEEK_HEAD, _CUES):
            yield from _positions(os.pread(descriptor, length, content))
        at = content + length
        if at >= size_bytes:
            yield at - first
            return


def _positions(data: bytes) -> Iterator[int]:
    """Yield the numbers of a table that are places in the segment."""
    at = 0
    while at < len(data):
        width = 9 - data[at].bit_length() if data[at] else 0
        name = data[at : at + width]
        length, content = _element_size(data, at + width)
        if not width or length is None:
            return
        inner = data[content : content + length]
        if name in (_SEEK_POSITION, _CUE_CLUSTER):
            yield int.from_bytes(inner, "big")
        elif name in (_SEEK, _CUE_POINT, _CUE_POSITIONS):
            yield from _positions(inner)
        at = content + length


def _element_size(data: bytes, at: int) -> tuple[int | None, int]:
    """Return an EBML element's size (None: unknown) and where its content begins."""
    if at >= len(data) or data[at] == 0:
        return None, at
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1 or at + length > len(data)
    return (None if unknown else value), at + length


def _chunks_are_truncated(descriptor: int, size_bytes: int) -> bool:
    """Walk the lists of frames in an AVI file, of which OpenDML has several, and look at the index of their indices.

    A file that is cut before its first list of frames says so by its own size.
    """
    has_frames, over = False, 0
    for start, end in _chunks(descriptor, 0, size_bytes, (b"AVI ", b"AVIX")):
        over = max(over, end)
        for first, last in _chunks(descriptor, start, min(end, size_bytes), (b"movi", b"hdrl")):
            has_frames |= os.pread(descriptor, 4, first - 4) == b"movi"
            if last > size_bytes:
                return True
            if any(place > size_bytes for place in _super_index(descriptor, first, last)):
                return True
    return over > size_bytes and not has_frames


def _chunks(descriptor: int, at: int, end: int, forms: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Yield where the content of each list of these forms begins and ends.

    A list of no size was written by a program that never came back to fill it in.
    """
    for _ in range(_MAX_PARTS):
        header = os.pread(descriptor, 12, at)
        if len(header) < 12 or at >= end:
            return
        length = int.from_bytes(header[4:8], "little")
        if header[:4] in (b"RIFF", b"LIST") and header[8:12] in forms:
            yield at + 12, at + 8 + length if length else end
        if length == 0:
            return
        at += 8 + length + length % 2


def _super_index(descriptor: int, start: int, end: int) -> Iterator[int]:
    """Yield where each part that a stream's OpenDML index lists ends."""
    for first, last in _chunks(descriptor, start, end, (b"strl",)):
        data = os.pread(descriptor, min(last - first, _MAX_TABLE_BYTES), first)
        at = data.find(b"indx")
        if at < 0 or data[at + 11 : at + 12] != b"\0":
            continue
        for k in range(int.from_bytes(data[at + 12 : at + 16], "little")):
            entry = data[at + 32 + 16 * k : at + 48 + 16 * k]
            if len(entry) < 16:
                break
            yield int.from_bytes(entry[:8], "little") + int.from_bytes(entry[8:12], "little")


def _tags_are_truncated(descriptor: int, size_bytes: int) -> bool:
    """Read the size that the first tag of an FLV file states, where its writer came back to state it."""
    head = os.pread(descriptor, 4096, 0)
    at = head.find(b"\0\x08filesize\0")
    if at < 0:
        return False
    (stated,) = struct.unpack(">d", head[at + 11 : at + 19].ljust(8, b"\0"))
    return bool(stated > size_bytes)


def _partitions_are_truncated(descriptor: int, size_bytes: int) -> bool:
    """Read where the header of an MXF file says that its footer is (SMPTE ST 377-1, 7.1)."""
    head = os.pread(descriptor, 64, 0)
    at = 17 + (head[16] & 0x7F if head[16] & 0x80 else 0)
    return int.from_bytes(head[at + 24 : at + 32], "big") >= size_bytes


def declared_avi_s(descriptor: int) -> float:
    """Return the seconds that the header of an AVI file declares, 0 for others; FFmpeg reports what is left of them."""
    head = os.pread(descriptor, 64, 0)
    if head[:4] != b"RIFF" or head[8:12] != b"AVI " or head[24:28] != b"avih":
        return 0.0
    frame_us, frames = int.from_bytes(head[32:36], "little"), int.from_bytes(head[48:52], "little")
    return frame_us * frames / 1e6
