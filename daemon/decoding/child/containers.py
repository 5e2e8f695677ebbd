"""The containers and protocols that FFmpeg may use, and the signatures by which a container is known."""

CONTAINERS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg")
IMAGES = ("png_pipe", "apng", "jpeg_pipe", "webp_pipe", "webp", "bmp_pipe", "gif")
PROTOCOLS = ("fd",)

_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"RIFF"),  # AVI, WebP
    (0, b"\x89PNG"),
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"GIF8"),
    (0, b"BM"),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"free"),
    (4, b"wide"),
)


def format_of(head: bytes) -> str | None:
    """Return the demuxer for a file where FFmpeg's own guess fails: a JPEG may have anything behind it."""
    return "jpeg_pipe" if head[:3] == b"\xff\xd8\xff" else None


def is_known(head: bytes) -> bool:
    """Return whether the first bytes look like a container that may be opened."""
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES) or head[:1] == head[188:189] == b"G"
