"""The meaning of a Kafka record: a clip's bytes, a reference to one, or nothing.

A record that can't be understood is delivered all the same: its media refuses to open, with the reason, so it ends on
the one way that all clips end on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectors.contract import Clip, ClipPosition, Delivery
from connectors.errors import Poison, Reason
from connectors.kafka.client.consumer import ConsumerRecord
from connectors.kafka.record import REPLAY_PREFIX, PendingCommit, SourceRecord
from connectors.media.bytes import BytesMedia
from connectors.media.protocols import Media
from connectors.media.refused import RefusedMedia
from connectors.messages.codec import parse_reference

_MAX_CLIP_ID_CHARACTERS = 256  # as in a reference
_MAX_PROMPT_BYTES = 4 * 32_768  # a longer question than a prompt may have, in UTF-8, is refused by the prompt itself
_TRACE_HEADERS = ("traceparent", "tracestate")


@dataclass(frozen=True)
class RecordDecoder:
    """Makes deliveries of records; there is one for each source.

    ``open_reference`` returns the media that a reference means, or raises :class:`Poison` where it is not allowed.
    """

    source: str
    prompts: Mapping[str, str]
    max_clip_bytes: int
    open_reference: Callable[[str, str], Media]

    def decode(self, record: ConsumerRecord, position: ClipPosition, assignment: int) -> Delivery | PendingCommit:
        """Return the delivery of a record, or for a null value the pending commit that skips it."""
        value = record.value
        headers = tuple(record.headers)
        is_reference = value is not None and _is_reference(value, dict(headers))
        origin = SourceRecord(
            record.topic,
            record.partition,
            record.offset,
            assignment,
            record.timestamp,
            record.key,
            headers,
            value if is_reference else None,
        )
        if value is None:
            return PendingCommit(origin, None)
        attributes, given = self._attributes(origin), dict(headers)
        name = f"{record.topic}/{record.partition}/{record.offset}"
        clip_id = _given_clip_id(given) or name
        media: Media
        try:
            if is_reference:
                reference = parse_reference(value)
                clip_id = _replayed(given, "clip_id") or reference.clip_id or clip_id
                if reference.prompt is not None:
                    attributes["prompt"] = reference.prompt
                media = self.open_reference(reference.uri, name)
            else:
                media = self._of_bytes(name, value)
        except Poison as fault:
            media = RefusedMedia(name, fault, len(value))
        clip = Clip(clip_id, self.source, media, time.time_ns(), attributes)
        first_window, plan_hash = position.next_window, position.plan_hash
        if plan_hash is None and (replayed := _replayed(given, "first_window")) is not None and replayed.isdecimal():
            first_window, plan_hash = int(replayed), _replayed(given, "plan_hash")
        return Delivery(clip, position.moved(first_window, plan_hash), origin)

    def _of_bytes(self, name: str, value: bytes) -> Media:
        if not value:
            raise Poison(Reason.EMPTY, "the value has no bytes", origin="source")
        if len(value) > self.max_clip_bytes:
            detail = f"{len(value)} bytes are more than limits.max_clip_bytes ({self.max_clip_bytes})"
            raise Poison(Reason.TOO_LARGE, detail, origin="source")
        return BytesMedia(name, value)

    def _attributes(self, origin: SourceRecord) -> dict[str, str]:
        """Return the clip's question and trace context: a header of its own wins over the topic's."""
        attributes = {"prompt": self.prompts[origin.topic]} if origin.topic in self.prompts else {}
        for name, value in origin.headers:
            if (name == "prompt" and 0 < len(value) <= _MAX_PROMPT_BYTES) or name in _TRACE_HEADERS:
                attributes[name] = value.decode(errors="replace")
        return attributes


def _is_reference(value: bytes, headers: Mapping[str, bytes]) -> bool:
    """Tell a reference from a video by the content type, else by the first bytes: no container begins with a brace."""
    content_type = headers.get("content-type", b"").split(b";")[0].strip().lower()
    if content_type == b"application/json" or content_type.endswith(b"+json"):
        return True
    if content_type.startswith((b"video/", b"image/")):
        return False
    return value[:64].lstrip().startswith((b"{", b"\xef\xbb\xbf{"))


def _given_clip_id(headers: Mapping[str, bytes]) -> str | None:
    """Return the id that a replay or a CloudEvent gives: its subject, else its own id."""
    given = _replayed(headers, "clip_id")
    if given is None and "ce_specversion" in headers:
        given = (headers.get("ce_subject") or headers.get("ce_id") or b"").decode(errors="replace")
    if given and len(given) <= _MAX_CLIP_ID_CHARACTERS and given.isprintable():
        return given
    return None


def _replayed(headers: Mapping[str, bytes], name: str) -> str | None:
    value = headers.get(REPLAY_PREFIX + name)
    return None if value is None else value.decode(errors="replace")
