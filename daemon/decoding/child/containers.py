"""The containers and protocols that FFmpeg may use, and the signatures by which a container is known.

What somebody records or keeps comes in where FFmpeg's demuxer for it reads nothing but the descriptor: what cameras and
programs write, what archives hold, and streams without a container. NUT and YUV4MPEG pass between programs only, and
ASF and RealMedia are no longer written: they stay out, since each demuxer is more code that strangers' bytes reach.
"""

import os
from collections.abc import Iterator

CONTAINERS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg"),
    *("flv", "ogg", "mxf", "ivf"),  # older web video and RTMP recorders, free video, broadcast, WebRTC recorders
    *("h264", "hevc", "mpegvideo"),  # a camera's stream as it is, without a container
)
IMAGES = ("png_pipe", "apng", "jpeg_pipe", "webp_pipe", "webp", "bmp_pipe", "gif")
PROTOCOLS = ("fd",)

ALLOWED = (
    "MP4, QuickTime, 3GP, Matroska, WebM, AVI, MPEG transport and program streams, FLV, Ogg, MXF, IVF, "
    "streams of H.264, HEVC and MPEG-1 or -2 without a container, and pictures (PNG, JPEG, WebP, BMP, GIF)"
)
"""The containers as people name them."""

CLOCK_JUMPS = ("mpegts", "mpeg", "flv")
"""FFmpeg's formats whose clock may jump either way, because recordings of them are joined and clocks wrap."""
NO_CONTAINER = ("h264", "hevc", "mpegvideo")
"""Streams without a container: the frame rate is the stream's own word."""
BEGIN_ANYWHERE = ("mpegts", "mpeg", *NO_CONTAINER)
"""Formats that may begin in the middle of a group of pictures: time begins with the first that can be decoded."""
CLOCK_RESTARTS = ("matroska,webm", "ogg")
"""Formats whose clock starts again where files were joined; gaps in them are what somebody meant."""

_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"RIFF"),  # AVI, WebP
    (0, b"\x89PNG"),
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"GIF8"),
    (0, b"BM"),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"DKIF"),  # IVF
    (0, b"\x06\x0e+4\x02\x05\x01\x01\x0d\x01\x02\x01\x01"),  # MXF
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"free"),
    (4, b"wide"),
    (4, b"uuid"),
    (4, b"skip"),
    (4, b"pnot"),
)

_OTHERS = (
    (0, b"nut/multimedia container", "NUT"),
    (0, b"YUV4MPEG2", "YUV4MPEG"),
    (0, b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel", "ASF (Windows Media)"),
    (0, b".RMF", "RealMedia"),
    (0, b"\xb7\xd8\0\x207I\xdaM\xa2\xb4", "WTV"),
    (0, b"BIK", "Bink"),
    (0, b"KB2", "Bink"),
    (0, b"SMK", "Smacker"),
    (0, b"DVDVIDEO-", "the table of a DVD's video"),
    (0, b"\x1f\x07\0", "DV without a container"),
    (0, b"IIMDVD", "a disc image"),
    (0, b"8BPS", "Photoshop"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
"""Containers of video and pictures that are known and not read, so that a rejection can name them."""


def format_of(head: bytes) -> str | None:
    """Return the demuxer for a file where FFmpeg's own guess fails: a JPEG may have anything behind it."""
    return "jpeg_pipe" if head[:3] == b"\xff\xd8\xff" else None


def is_known(head: bytes) -> bool:
    """Return whether the first bytes look like a container that may be opened."""
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES) or head[:1] == head[188:189] == b"G"


def other_container(head: bytes) -> str:
    """Return the name of a container that is known and not read, or nothing."""
    return next((name for at, mark, name in _OTHERS if head[at : at + len(mark)] == mark), "")


def boxes(descriptor: int, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of an MP4 file between two places: type, where the content begins, where the box says it ends.

    A box that ends beyond ``end`` is yielded too, and is the last one. What is no box ends the walk.
    """
    while at + 8 <= end:
        header = os.pread(descriptor, 16, at)
        length, content = int.from_bytes(header[:4], "big"), at + 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), at + 16
        elif length == 0:  # to the end of the file
            length = end - at
        if length < content - at:
            return
        yield header[4:8], content, at + length
        at += length


_SAMPLE_ENTRIES = 8  # bytes of a stsd box before its first entry
_SCAN_BYTES = 2**20  # of a transport stream: some seconds
_TS_PACKET = 188
_MOST_SCRAMBLED = 0.5  # a share of a stream's packets


def is_encrypted(descriptor: int, container: str, stream_id: int) -> bool:
    """Return whether a container says that a stream's frames are encrypted."""
    size_bytes = os.fstat(descriptor).st_size
    if container.startswith("mov"):
        return _has_encrypted_entry(descriptor, size_bytes, stream_id)
    if container == "mpegts":
        return _is_scrambled(os.pread(descriptor, _SCAN_BYTES, 0), stream_id)
    if container.startswith("matroska"):
        return _has_content_encryption(os.pread(descriptor, _SCAN_BYTES, 0))
    return False


def _has_encrypted_entry(descriptor: int, size_bytes: int, track: int) -> bool:
    """Look for a protected sample entry (ISO/IEC 14496-12, 8.12) in a track of the movie box."""
    for kind, start, end in boxes(descriptor, 0, size_bytes):
        if kind != b"moov":
            continue
        for part, first, last in boxes(descriptor, start, min(end, size_bytes)):
            if part == b"trak" and _track_is_encrypted(descriptor, first, last, track):
                return True
    return False


def _track_is_encrypted(descriptor: int, start: int, end: int, track: int) -> bool:
    at = {kind: (first, last) for kind, first, last in boxes(descriptor, start, end)}
    header = os.pread(descriptor, 24, at[b"tkhd"][0]) if b"tkhd" in at else b""
    number = header[20:24] if header[:1] == b"\1" else header[12:16]
    if int.from_bytes(number, "big") != track:
        return False
    for name in (b"mdia", b"minf", b"stbl", b"stsd"):
        if name not in at:
            return False
        start, end = at[name]
        if name == b"stsd":
            break
        at = {kind: (first, last) for kind, first, last in boxes(descriptor, start, end)}
    return any(kind in (b"encv", b"drmi") for kind, _, _ in boxes(descriptor, start + _SAMPLE_ENTRIES, end))


def _is_scrambled(data: bytes, pid: int) -> bool:
    """Count the packets of a stream whose transport_scrambling_control is set (ISO/IEC 13818-1, 2.4.3.3)."""
    scrambled = count = 0
    at = data.find(b"G")
    step = next((n for n in (_TS_PACKET, _TS_PACKET + 4, _TS_PACKET + 16) if data[at + n : at + n + 1] == b"G"), 0)
    while step and 0 <= at < len(data) - 3:
        if data[at] == 0x47 and (data[at + 1] & 0x1F) << 8 | data[at + 2] == pid:
            count += 1
            scrambled += bool(data[at + 3] & 0xC0)
        at += step
    return count > 0 and scrambled > _MOST_SCRAMBLED * count


def _has_content_encryption(head: bytes) -> bool:
    """Look for a track's ContentEncodings with a ContentEncryption (RFC 9559, 5.1.4.1.31)."""
    tracks = head.find(b"\x16T\xaek")
    encodings = head.find(b"\x6d\x80", tracks) if tracks >= 0 else -1
    while encodings >= 0:
        inner = head[encodings + 3 : encodings + 5]
        if b"\x62\x40" in (inner, head[encodings + 4 : encodings + 6]):
            return b"\x50\x35" in head[encodings : encodings + 64]
        encodings = head.find(b"\x6d\x80", encodings + 1)
    return False
