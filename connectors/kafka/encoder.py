"""The records that are written about a progress: one for each caption, and the dead letter of a rejection."""

import os
from collections.abc import Mapping

from opentelemetry.propagate import inject

from connectors.contract import Progress
from connectors.errors import Poison
from connectors.kafka.client.settings import MAX_REQUEST_BYTES
from connectors.kafka.record import ERRORS_PREFIX, Headers, ProducerRecord, SourceRecord
from connectors.kafka.settings import KafkaSinkSettings
from connectors.messages.cloudevents import caption_headers, rejection_headers
from connectors.messages.codec import caption_to_json, rejection_to_json
from connectors.messages.safe_text import clean_line

_MAX_DETAIL_BYTES = 2048  # a dead letter's headers stay far below any limit of a record


def records_of(progress: Progress, settings: KafkaSinkSettings) -> tuple[ProducerRecord, ...]:
    """Return the records of a progress. The key is the input record's, else the clip's id: one clip, one partition.

    A stream's is its name, so that its windows stay in their order.
    """
    clip = progress.delivery.clip
    key = _key_of(progress)
    topic = settings.topic_for(clip.source)
    trace, name, apart = _trace_headers(), clip.media.name, settings.tells_questions_apart
    captions = tuple(
        ProducerRecord(
            settings.topic_for(clip.source, caption.prompt) if apart else topic,
            key,
            caption_to_json(caption, name),
            (*headers, *trace),
        )
        for caption, headers in zip(progress.captions, caption_headers(progress.captions), strict=True)
    )
    return captions if progress.rejection is None else (*captions, _dead_letter(progress, settings))


def _trace_headers() -> Headers:
    """Return the W3C trace context of what is being published: the clip's own where nobody records spans."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((name, value.encode()) for name, value in carrier.items())


def _key_of(progress: Progress) -> bytes:
    origin = progress.delivery.handle
    if isinstance(origin, SourceRecord) and origin.key is not None:
        return origin.key
    clip = progress.delivery.clip
    return (clip.clip_id if clip.stream is None else clip.source).encode(errors="replace")


def _dead_letter(progress: Progress, settings: KafkaSinkSettings) -> ProducerRecord:
    """Return the original record under its own key with what went wrong in headers; else the rejection's message.

    Where the topic refuses it for its size, a null value and the record's coordinates stand for it.
    """
    clip, rejection = progress.delivery.clip, progress.rejection
    assert rejection is not None  # noqa: S101 - the caller looked
    topic = settings.dead_letter_topic_for(clip.source)
    errors = _error_headers(progress)
    origin = progress.delivery.handle
    if not isinstance(origin, SourceRecord):
        value = rejection_to_json(rejection, clip.media.name, progress.next_window)
        return ProducerRecord(topic, _key_of(progress), value, (*rejection_headers(rejection), *errors))
    bare = ProducerRecord(topic, _key_of(progress), None, errors)
    original = _value_of(progress, origin)
    if original is None:
        return bare
    kept = tuple((name, value) for name, value in origin.headers if not name.startswith(ERRORS_PREFIX))
    return ProducerRecord(topic, _key_of(progress), original, (*kept, *errors), fallback=bare)


def _value_of(progress: Progress, origin: SourceRecord) -> bytes | None:
    """Return the original value; None when it is gone or larger than any request."""
    if origin.value is not None:
        return origin.value
    media = progress.delivery.clip.media
    if media.size_bytes == 0:
        return b""
    if media.size_bytes >= MAX_REQUEST_BYTES:
        return None
    try:
        descriptor = media.open()
    except (Poison, ValueError, OSError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _error_headers(progress: Progress) -> Headers:
    rejection, origin = progress.rejection, progress.delivery.handle
    assert rejection is not None  # noqa: S101 - the caller looked
    found: Mapping[str, object] = {
        "connector.name": rejection.source,
        "stage": rejection.origin,
        "exception.class.name": rejection.reason,
        "exception.message": rejection.detail,
        "attempts": rejection.attempts,
        "first_window": progress.next_window,
        "plan_hash": progress.plan_hash,
    }
    if isinstance(origin, SourceRecord):
        found = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset, **found}
    told = tuple((ERRORS_PREFIX + name, _line(str(value))) for name, value in found.items())
    return (
        *told,
        (f"{ERRORS_PREFIX}clip_id", rejection.clip_id.encode(errors="replace")),
    )  # exactly: a replay keeps it


def _line(text: str) -> bytes:
    """Return a text of bounded length in UTF-8, whatever a file's name brought into it."""
    return str(clean_line(text)).encode()[:_MAX_DETAIL_BYTES].decode(errors="ignore").encode()
