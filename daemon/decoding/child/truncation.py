"""Truncation: a file that ends before its container does, known by box, segment and chunk sizes, never by durations."""

import os

_BOX_HEADER, _MAX_BOXES = 16, 100_000  # a fragmented film of a day at two boxes a second stays below the bound


def is_truncated(descriptor: int, size_bytes: int) -> bool:
    """Return whether the container says that the file is longer than ``size_bytes``.

    False for MPEG transport and program streams, which may end anywhere, and for images, which do not say.
    """
    head = os.pread(descriptor, 64, 0)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"styp", b"skip"):
        return _boxes_are_truncated(descriptor, size_bytes)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _segment_is_truncated(head, size_bytes)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _chunks_are_truncated(descriptor, size_bytes)
    return False


def _boxes_are_truncated(descriptor: int, size_bytes: int) -> bool:
    """Walk the boxes of an MP4 or QuickTime file; True where one ends beyond the file, or there is no movie box."""
    at, has_movie = 0, False
    for _ in range(_MAX_BOXES):
        header = os.pread(descriptor, _BOX_HEADER, at)
        if len(header) < 8:
            if header:
                return True
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # to the end of the file
            length = size_bytes - at
        if length < 8:
            break  # not a box: damaged, which is another finding
        has_movie |= header[4:8] == b"moov"
        at += length
        if at > size_bytes:
            return True
    return not has_movie


def _segment_is_truncated(head: bytes, size_bytes: int) -> bool:
    """Read the EBML header and the size of the Matroska segment after it."""
    header_bytes, at = _element_size(head, 4)
    if header_bytes is None:
        return False
    at += header_bytes
    if at + 12 > size_bytes:  # the segment's own header is not whole
        return True
    if head[at : at + 4] != b"\x18S\x80g":
        return False
    segment_bytes, at = _element_size(head, at + 4)
    return segment_bytes is not None and at + segment_bytes > size_bytes


def _element_size(data: bytes, at: int) -> tuple[int | None, int]:
    """Return an EBML element's size (None: unknown) and where its content begins."""
    if at >= len(data) or data[at] == 0:
        return None, at
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1 or at + length > len(data)
    return (None if unknown else value), at + length


def _chunks_are_truncated(descriptor: int, size_bytes: int) -> bool:
    """Walk the RIFF chunks of an AVI file; OpenDML has several."""
    at = 0
    while at + 12 <= size_bytes:
        header = os.pread(descriptor, 8, at)
        if header[:4] != b"RIFF":
            return False
        length = int.from_bytes(header[4:8], "little")
        if length == 0:  # written by a program that never came back to fill it in
            return False
        at += 8 + length + length % 2
    return at - 1 > size_bytes


def declared_avi_s(descriptor: int) -> float:
    """Return the seconds that the header of an AVI file declares, 0 for others; FFmpeg reports what is left of them."""
    head = os.pread(descriptor, 64, 0)
    if head[:4] != b"RIFF" or head[8:12] != b"AVI " or head[24:28] != b"avih":
        return 0.0
    frame_us, frames = int.from_bytes(head[32:36], "little"), int.from_bytes(head[48:52], "little")
    return frame_us * frames / 1e6
