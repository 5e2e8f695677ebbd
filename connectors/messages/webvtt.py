"""Captions as WebVTT, the text track that browsers show beside a video.

https://www.w3.org/TR/webvtt1/: a header, then blocks parted by blank lines. A blank line or ``-->`` inside a text would
end or start a block and ``<`` a tag, so texts are escaped and their blank lines dropped. A cue stands at the time that
a player shows: where sound begins before the picture, window 0 begins later than 0. Of a stream, it is the time from
the start of the hour in which the window begins.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from connectors.contract import Caption
from connectors.messages.safe_text import clean_text
from connectors.questions import Questions

HEADER = "WEBVTT\n"
HOUR_NS = 3600 * 1_000_000_000
"""The time that one track of a stream is about."""


@dataclass(frozen=True)
class Shown:
    """The captions that a track shows: one a window, of the question ``prompt``, else of the first that it was asked.

    Where the configuration points to a place in an answer's data, the cue has what stands there.
    """

    questions: Questions
    prompt: str | None = None

    def of(self, captions: Iterable[Caption]) -> Iterator[Caption]:
        """Yield the captions that are shown, with the texts of their cues."""
        for _, answers in groupby(captions, key=lambda caption: (caption.clip_id, caption.window.index)):
            found = list(answers)
            caption = found[0] if len(found) == 1 else self._chosen(found)
            pointer = self.questions.pointer(caption.source, caption.prompt) if self.questions.of else None
            yield caption if pointer is None else replace(caption, text=_pointed_at(caption, pointer))

    def _chosen(self, answers: Sequence[Caption]) -> Caption:
        return next((caption for caption in answers if caption.prompt == self.prompt), answers[0])


PLAIN = Shown(Questions())
"""The captions as they are shown where nothing is configured."""


def _pointed_at(caption: Caption, pointer: str) -> str:
    """Return the text at a place in the data; nothing where the data has no such place, or there is none."""
    found: Any = caption.data
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return ""
    if found is None:
        return ""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def document(captions: Iterable[Caption]) -> str:
    """Return a whole file, valid with any number of captions; :func:`block` may be appended to it."""
    return HEADER + "".join(map(block, captions))


def block(caption: Caption) -> str:
    """Return what a caption adds at the end of a file."""
    return "\n" + cue(caption)


def cue(caption: Caption) -> str:
    """Return the cue of one caption, without the blank line before it. A window without a text is a cue without one."""
    start_ns, end_ns = _on_the_track(caption)
    start_ms = start_ns // 1_000_000
    end_ms = max(end_ns // 1_000_000, start_ms + 1)  # a cue must end after it starts
    return f"{_timestamp(start_ms)} --> {_timestamp(end_ms)}\n{_payload(caption.text)}\n"


def _on_the_track(caption: Caption) -> tuple[int, int]:
    window, stream = caption.window, caption.stream
    if stream is None:
        return caption.media_start_ns + window.start_ns, caption.media_start_ns + window.exclusive_end_ns
    hour_ns = stream.start_ns - stream.start_ns % HOUR_NS
    return stream.start_ns - hour_ns, stream.exclusive_end_ns - hour_ns


def _timestamp(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"


def _payload(text: str) -> str:
    escaped = clean_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    lines = (line.strip() for line in escaped.split("\n"))
    return "\n".join(line for line in lines if line)
