"""The CloudEvents headers of messages, in binary content mode: the value stays the message alone."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from connectors.contract import Caption, Rejection
from connectors.messages.schema import CAPTION_TYPE, CLIP_TYPE
from connectors.messages.wall_time import wall_text

Headers = list[tuple[str, bytes]]

PROMPT_HEADER = "captiond_prompt"
WALL_START_HEADER, WALL_END_HEADER = "captiond_wall_start", "captiond_wall_end"

_MAX_IDENTITY_CHARACTERS = 256


def event_identity(headers: Mapping[str, bytes]) -> str:
    """Return what makes an event that came in the same event: its source and its id, which CloudEvents wants together.

    Empty where the headers are no event's, or lack one of the two: an id alone is unique with its source only. Where
    the two are long, or no text that can be told apart in print, their digest stands for them.
    """
    source, event_id = headers.get("ce_source", b""), headers.get("ce_id", b"")
    if "ce_specversion" not in headers or not source or not event_id:
        return ""
    try:
        written = f"{source.decode()}#{event_id.decode()}"
    except UnicodeDecodeError:
        written = ""
    if b"#" not in source and 0 < len(written) <= _MAX_IDENTITY_CHARACTERS and written.isprintable():
        return written
    return hashlib.sha256(b"%d#%b#%b" % (len(source), source, event_id)).hexdigest()


def caption_headers(captions: Sequence[Caption], time_ns: int | None = None) -> Iterator[Headers]:
    """Yield the headers of each caption of one clip: they differ in their id, and in a question that has a name.

    Those of a stream's window say when it begins and ends on the wall clock.
    """
    if captions:
        rest = _headers(CAPTION_TYPE, captions[0].source, captions[0].clip_id, time_ns)
        if (stream := captions[0].stream) is not None:
            rest.append((WALL_START_HEADER, wall_text(stream.start_ns).encode()))
            rest.append((WALL_END_HEADER, wall_text(stream.exclusive_end_ns).encode()))
        for caption in captions:
            named = [] if caption.prompt is None else [(PROMPT_HEADER, caption.prompt.encode())]
            yield [("ce_id", caption.caption_id.encode()), *rest, *named]


def rejection_headers(rejection: Rejection, time_ns: int | None = None) -> Headers:
    """Return the headers of a rejection; its id is the same whenever the clip is rejected again."""
    event_id = hashlib.sha256(f"{CLIP_TYPE}\x1f{rejection.source}\x1f{rejection.clip_id}".encode()).hexdigest()
    return [("ce_id", event_id.encode()), *_headers(CLIP_TYPE, rejection.source, rejection.clip_id, time_ns)]


def _headers(event_type: str, source: str, subject: str, time_ns: int | None) -> Headers:
    """Return all headers but the id."""
    at = datetime.fromtimestamp((time.time_ns() if time_ns is None else time_ns) / 1e9, tz=UTC)
    attributes = {
        "ce_specversion": "1.0",
        "ce_type": event_type,
        "ce_source": f"/captiond/{quote(source, safe='')}",
        "ce_subject": subject,
        "ce_time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "content-type": "application/json",
    }
    return [(name, value.encode(errors="replace")) for name, value in attributes.items()]
