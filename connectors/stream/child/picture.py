"""Pictures that say in their first bytes what they are: of which codec a key frame is, and how large."""

from connectors.stream.child.parameter_sets import holds_sets

_PICTURE, _SEQUENCE, _OBJECT = b"\0\0\1\0", b"\0\0\1\xb3", b"\0\0\1\xb6"  # of MPEG-1 and -2, and of MPEG-4
START_CODED = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # of JPEG
_ALONE = {0x01, *range(0xD0, 0xD9)}  # JPEG's markers without a length
_VP9_SYNC, _VP9_HEADER = 0x498342, 10  # what stands in front of a key frame, and the bytes up to its size


def codec_of(codec: str, data: bytes) -> str:
    """Return of which codec a key frame is that came in a stream of ``codec``: a sender may go over to another.

    Codecs whose frames begin with start codes are told apart by them: what one of them may write, the others may not.
    """
    if codec not in START_CODED:
        return codec
    if _OBJECT in data:
        return "mpeg4"
    if _PICTURE in data or _SEQUENCE in data:
        return codec if codec == "mpeg1video" else "mpeg2video"
    return next((name for name in ("hevc", "h264") if holds_sets(name, data)), codec)


def size_in(codec: str, data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a key frame says where that takes no parser; else None."""
    size = {"mjpeg": _of_jpeg, "vp9": _of_vp9, "mpeg2video": _of_mpeg, "mpeg1video": _of_mpeg}.get(codec, _unsaid)(data)
    return size if size is not None and all(size) else None


def _unsaid(_data: bytes) -> None:
    return None


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_HEADERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 if marker in _ALONE else 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _of_vp9(data: bytes) -> tuple[int, int] | None:
    """Read the uncompressed header of a key frame (VP9 bitstream specification, 6.2)."""
    if len(data) < _VP9_HEADER:
        return None
    bits = int.from_bytes(data[:16].ljust(16, b"\0"), "big")
    at = 128

    def take(count: int) -> int:
        nonlocal at
        at -= count
        return bits >> at & (1 << count) - 1

    marker, profile = take(2), take(1) | take(1) << 1
    take(profile == 3)
    is_shown_again, is_inter = take(1), take(1)
    take(2)
    if marker != 2 or is_shown_again or is_inter or take(24) != _VP9_SYNC:
        return None
    take(profile >= 2)
    is_rgb = take(3) == 7
    take((1 if profile in (1, 3) else 0) if is_rgb else (4 if profile in (1, 3) else 1))
    return take(16) + 1, take(16) + 1


def _of_mpeg(data: bytes) -> tuple[int, int] | None:
    at = data.find(_SEQUENCE)
    if at < 0 or len(data) < at + 7:
        return None
    both = int.from_bytes(data[at + 4 : at + 7], "big")
    return both >> 12, both & 0xFFF
