"""The CloudEvents headers of messages, in binary content mode: the value stays the message alone."""

import hashlib
import time
from datetime import UTC, datetime
from urllib.parse import quote

from connectors.contract import Caption, Rejection
from connectors.messages.schema import CAPTION_TYPE, CLIP_TYPE

Headers = list[tuple[str, bytes]]


def caption_headers(caption: Caption, time_ns: int | None = None) -> Headers:
    """Return the headers of a caption."""
    return _headers(CAPTION_TYPE, caption.caption_id, caption.source, caption.clip_id, time_ns)


def rejection_headers(rejection: Rejection, time_ns: int | None = None) -> Headers:
    """Return the headers of a rejection; its id is the same whenever the clip is rejected again."""
    event_id = hashlib.sha256(f"{CLIP_TYPE}\x1f{rejection.source}\x1f{rejection.clip_id}".encode()).hexdigest()
    return _headers(CLIP_TYPE, event_id, rejection.source, rejection.clip_id, time_ns)


def _headers(event_type: str, event_id: str, source: str, subject: str, time_ns: int | None) -> Headers:
    at = datetime.fromtimestamp((time.time_ns() if time_ns is None else time_ns) / 1e9, tz=UTC)
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": event_type,
        "ce_source": f"/captiond/{quote(source, safe='')}",
        "ce_subject": subject,
        "ce_time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "content-type": "application/json",
    }
    return [(name, value.encode(errors="replace")) for name, value in attributes.items()]
