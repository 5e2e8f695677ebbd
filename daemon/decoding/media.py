"""Untrusted media: the limits on them, and what their first bytes alone already rule out.

Shared by the program and its decoding children.
"""

from dataclasses import dataclass

from connectors.errors import Poison, Reason

MAX_FRAMES = 20_000_000  # 24 hours at 230 frames a second; an index of so many takes 340 MB
HEAD_BYTES = 4096  # enough for every signature of a container or a playlist

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<smil", b"[playlist]", b"[InternetShortcut]")


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The bounds of what a clip may ask for: pixels of one frame, frames, and seconds."""

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


def refuse_playlists(head: bytes) -> None:
    """Refuse text that would send a demuxer elsewhere: playlists, session descriptions, shortcuts."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if any(text[: len(mark)].lower() == mark.lower() for mark in _PLAYLISTS):
        raise Poison(Reason.FORBIDDEN_FORMAT, "a playlist or a description of streams, not a video")
