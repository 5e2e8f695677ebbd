"""Captions as WebVTT, the text track that browsers show beside a video.

https://www.w3.org/TR/webvtt1/: a header, then blocks parted by blank lines. A blank line or ``-->`` inside a text would
end or start a block and ``<`` a tag, so texts are escaped and their blank lines dropped. A cue stands at the time that
a player shows: where sound begins before the picture, window 0 begins later than 0.
"""

from collections.abc import Iterable

from connectors.contract import Caption
from connectors.messages.safe_text import clean_text

HEADER = "WEBVTT\n"


def document(captions: Iterable[Caption]) -> str:
    """Return a whole file, valid with any number of captions; :func:`block` may be appended to it."""
    return HEADER + "".join(map(block, captions))


def block(caption: Caption) -> str:
    """Return what a caption adds at the end of a file."""
    return "\n" + cue(caption)


def cue(caption: Caption) -> str:
    """Return the cue of one caption, without the blank line before it. A window without a text is a cue without one."""
    window, offset_ns = caption.window, caption.media_start_ns
    start_ms = (offset_ns + window.start_ns) // 1_000_000
    end_ms = max((offset_ns + window.exclusive_end_ns) // 1_000_000, start_ms + 1)  # a cue must end after it starts
    return f"{_timestamp(start_ms)} --> {_timestamp(end_ms)}\n{_payload(caption.text)}\n"


def _timestamp(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"


def _payload(text: str) -> str:
    escaped = clean_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    lines = (line.strip() for line in escaped.split("\n"))
    return "\n".join(line for line in lines if line)
