"""Untrusted media: what may be opened, how much of it, and what its bytes alone already say.

Only an open descriptor is ever decoded. FFmpeg is given the lists below as allow-lists, and the first
bytes are looked at before that, so a playlist never reaches a demuxer. Shared by the program and its decoding children.
"""

import os
import stat
from dataclasses import dataclass
from typing import Self

from connectors.errors import Poison, Reason
from connectors.media.protocols import Media

CONTAINERS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg")
IMAGES = ("png_pipe", "apng", "jpeg_pipe", "webp_pipe", "webp", "bmp_pipe", "gif")
PROTOCOLS = ("fd",)
MAX_FRAMES = 20_000_000  # 24 hours at 230 frames a second; an index of so many takes 340 MB
HEAD_BYTES = 4096  # enough for every signature below

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<smil", b"[playlist]", b"[InternetShortcut]")
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


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a clip may ask for: pixels of one frame, frames, and seconds."""

    max_pixels: int
    max_duration_s: float
    max_frames: int = MAX_FRAMES

    def check_size(self, width: int, height: int) -> None:
        """Refuse frames that are too large, before any is decoded."""
        if width * height > self.max_pixels:
            raise Poison(
                Reason.OVER_BUDGET,
                f"frames of {width} x {height} are more than limits.max_pixels ({self.max_pixels:,})",
            )

    def check_length(self, frames: int, duration_s: float) -> None:
        """Refuse clips that are too long, before any frame is decoded."""
        if duration_s > self.max_duration_s:
            raise Poison(
                Reason.OVER_BUDGET, f"{duration_s:.2f} s is more than limits.max_duration_s ({self.max_duration_s:g})"
            )
        if frames > self.max_frames:
            raise Poison(Reason.OVER_BUDGET, f"a clip has at most {self.max_frames:,} frames")


def is_known(head: bytes) -> bool:
    """Return whether the first bytes look like a container that may be opened."""
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES) or head[:1] == head[188:189] == b"G"


def is_animated_webp(head: bytes) -> bool:
    """Return whether a WebP file holds an animation, which FFmpeg's decoder passes over without a word."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def refuse_playlists(head: bytes) -> None:
    """Refuse text that would send a demuxer elsewhere: playlists, session descriptions, shortcuts."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if any(text[: len(mark)].lower() == mark.lower() for mark in _PLAYLISTS):
        raise Poison(Reason.FORBIDDEN_FORMAT, "a playlist or a description of streams, not a video")


@dataclass(slots=True)
class OpenMedia:
    """A clip's descriptor and what the file was when it was opened. :meth:`close` may be called again."""

    descriptor: int
    size_bytes: int
    _identity: tuple[int, ...]

    @classmethod
    def open(cls, media: Media, max_clip_bytes: int) -> Self:
        """Open the clip and refuse what no decoder needs to see; :class:`Poison` names the reason."""
        descriptor = media.open()
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Poison(Reason.FORBIDDEN_PATH, "not a regular file")
            if status.st_size == 0:
                raise Poison(Reason.EMPTY, "the file has no bytes")
            if status.st_size > max_clip_bytes:
                raise Poison(
                    Reason.TOO_LARGE,
                    f"{status.st_size:,} bytes are more than limits.max_clip_bytes ({max_clip_bytes:,})",
                )
            refuse_playlists(os.pread(descriptor, HEAD_BYTES, 0))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, status.st_size, _identity(status))

    def check_unchanged(self) -> None:
        """Raise :class:`Poison` when the file is no longer the one that was opened."""
        status = os.fstat(self.descriptor)
        if _identity(status) != self._identity:
            raise Poison(
                Reason.CHANGED, f"the file had {self.size_bytes:,} bytes, now {status.st_size:,}, or was written to"
            )

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
