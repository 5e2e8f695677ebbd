"""Untrusted media: the limits on them, and what their first bytes alone already rule out.

Shared by the program and its decoding children.
"""

from dataclasses import dataclass, replace
from typing import Self

from connectors.errors import Poison, Reason

MAX_FRAMES = 20_000_000  # 24 hours at 230 frames a second; an index of so many takes 340 MB
HEAD_BYTES = 4096  # enough for every signature of a container or a playlist

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<smil", b"[playlist]", b"[InternetShortcut]")
_PICTURE_BRANDS = (b"mif1", b"mif2", b"miaf", b"heic", b"heix", b"heim", b"heis", b"avif")


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The bounds of what a clip may ask for: pixels of one frame, frames, and seconds.

    A decoder holds some twenty frames of a video and one of a picture, which may therefore be larger. ``shown_pixels``
    bounds the frames that are handed on, where that is less.
    """

    max_pixels: int
    max_duration_s: float
    max_frames: int = MAX_FRAMES
    max_picture_pixels: int = 0
    shown_pixels: int = 0

    def of(self, head: bytes) -> Self:
        """Return the limits for a clip that begins with these bytes."""
        if self.max_picture_pixels <= self.max_pixels or not is_picture(head):
            return self
        return replace(self, max_pixels=self.max_picture_pixels, shown_pixels=self.max_pixels)

    def check_size(self, width: int, height: int) -> None:
        """Refuse frames that are too large, before any is decoded."""
        if width * height > self.max_pixels:
            key = "max_picture_pixels" if self.shown_pixels else "max_pixels"
            detail = f"frames of {width} x {height} are more than limits.{key} ({self.max_pixels:,})"
            raise Poison(Reason.OVER_BUDGET, detail)

    def check_length(self, frames: int, duration_s: float) -> None:
        """Refuse clips that are too long, before any frame is decoded."""
        if duration_s > self.max_duration_s:
            raise Poison(
                Reason.OVER_BUDGET, f"{duration_s:.2f} s is more than limits.max_duration_s ({self.max_duration_s:g})"
            )
        if frames > self.max_frames:
            raise Poison(Reason.OVER_BUDGET, f"a clip has at most {self.max_frames:,} frames")


def is_picture(head: bytes) -> bool:
    """Return whether the first bytes are those of a picture that stands still: JPEG, PNG, WebP, BMP, HEIC, AVIF."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP" and not is_animated_webp(head)
    if head[:4] == b"\x89PNG":
        return b"acTL" not in head[: head.find(b"IDAT")]
    if head[4:8] == b"ftyp":
        return head[8:12] in _PICTURE_BRANDS
    return head[:3] == b"\xff\xd8\xff" or (head[:2] == b"BM" and head[6:10] == bytes(4))


def is_image(head: bytes) -> bool:
    """Return whether the first bytes are those of a file of pictures, whether they stand still or move."""
    return is_picture(head) or head.startswith((b"\x89PNG", b"GIF8")) or is_animated_webp(head)


def is_animated_webp(head: bytes) -> bool:
    """Return whether a WebP file holds an animation, which FFmpeg's decoder passes over without a word."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def refuse_playlists(head: bytes) -> None:
    """Refuse text that would send a demuxer elsewhere: playlists, session descriptions, shortcuts."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if any(text[: len(mark)].lower() == mark.lower() for mark in _PLAYLISTS):
        raise Poison(Reason.FORBIDDEN_FORMAT, "a playlist or a description of streams, not a video")
