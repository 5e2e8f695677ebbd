"""Messages to JSON and back: captions and rejections both ways, and references from outside."""

import re
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from connectors.contract import (
    Attempt,
    Caption,
    FramesShown,
    Missing,
    Rejection,
    SameAs,
    StreamWindow,
    Usage,
    WindowSpan,
)
from connectors.errors import Poison
from connectors.messages.safe_text import MAX_TEXT_CHARS, clean_line, clean_text, escaped_json
from connectors.messages.schema import (
    CAPTION_TYPE,
    SCHEMA_VERSION,
    CaptionMessage,
    ReferenceMessage,
    RejectionMessage,
    StreamMessage,
)
from connectors.messages.strict_json import malformed, parse_object
from connectors.messages.wall_time import wall_ns, wall_text
from connectors.validation import first_fault

_NO_TEXT = re.compile("[\ud800-\udfff]")
_NOTHING: dict[str, Any] = {}
_NOTHING_ASKED = (None,) * 6

_BUILT = {"schema_version", "type", "clip_name", "window", "usage", "frames", "attempts", "same_as", "stream"}

MAX_REFERENCE_BYTES = 64 * 1024  # a prompt of 32,768 characters and a path fit; a clip does not


def caption_to_json(caption: Caption, clip_name: str | None = None) -> bytes:
    """Return a caption's message: one line of UTF-8 without a line end.

    It is what :class:`CaptionMessage` would write, which checks what is our own: that takes twice as long.
    """
    message = {
        "schema_version": SCHEMA_VERSION,
        "type": CAPTION_TYPE,
        "caption_id": caption.caption_id,
        "clip_id": caption.clip_id,
        "source": clean_line(caption.source),
        "clip_name": _named(clip_name),
        "window": caption.window,
        "text": clean_text(caption.text),
        "status": caption.status.value,
        "model": clean_line(caption.model),
        "prompt_hash": caption.prompt_hash,
        "plan_hash": caption.plan_hash,
        "usage": caption.usage,
        "frames": caption.frames,
        "timing_ms": dict(caption.timing_ms),
        "detail": clean_line(caption.detail),
        "media_start_ns": caption.media_start_ns,
        **_asked_for(caption),
    }
    return escaped_json(to_json(message, inf_nan_mode="null").decode()).encode()


def _asked_for(caption: Caption) -> dict[str, Any]:
    """Return what is in a message only where it says something."""
    asked = (caption.prompt, caption.data, caption.input, caption.same_as, caption.context_windows, caption.stream)
    if asked == _NOTHING_ASKED and not (caption.attempts or caption.reason):
        return _NOTHING  # as of nearly every caption
    found: dict[str, Any] = {
        "prompt": caption.prompt,
        "data": _plain(caption.data),
        "reason": caption.reason or None,
        "attempts": [_attempt(one) for one in caption.attempts] or None,
        "input": caption.input,
        "same_as": caption.same_as
        and {"caption_id": caption.same_as.caption_id, "text": clean_text(caption.same_as.text)},
        "context_windows": caption.context_windows,
        "stream": caption.stream and _stream(caption.stream),
    }
    return {name: value for name, value in found.items() if value is not None}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {**asdict(attempt), "text": clean_text(attempt.text), "detail": clean_line(attempt.detail)}


def _stream(window: StreamWindow) -> dict[str, Any]:
    return {
        "index": window.index,
        "wall_start": wall_text(window.start_ns),
        "wall_end": wall_text(window.exclusive_end_ns),
        "clock": window.clock,
        "missing": [
            {"wall_start": wall_text(one.start_ns), "wall_end": wall_text(one.exclusive_end_ns), "reason": one.reason}
            for one in window.missing
        ],
        "thinned": window.thinned,
    }


def _stream_window(message: StreamMessage) -> StreamWindow:
    missing = tuple(Missing(wall_ns(one.wall_start), wall_ns(one.wall_end), one.reason) for one in message.missing)
    span = wall_ns(message.wall_start), wall_ns(message.wall_end)
    return StreamWindow(message.index, *span, message.clock, missing, message.thinned)


def _plain(data: Any) -> Any:
    """Return JSON with what no message can hold replaced: halves of pairs in its texts."""
    if isinstance(data, str):
        return _NO_TEXT.sub("\ufffd", data)
    if isinstance(data, dict):
        return {_plain(name): _plain(value) for name, value in data.items()}
    return [_plain(value) for value in data] if isinstance(data, list) else data


def rejection_to_json(rejection: Rejection, clip_name: str | None = None, next_window: int | None = None) -> bytes:
    """Return a rejection's message: one line of UTF-8 without a line end."""
    message = RejectionMessage.model_validate(rejection)
    message.clip_name, message.next_window = _named(clip_name), next_window
    return escaped_json(message.model_dump_json()).encode()


def _named(clip_name: str | None) -> str | None:
    """Return a name as it is, for readers look for the file; only bytes that are not UTF-8 can't be in a message."""
    return None if clip_name is None else _NO_TEXT.sub("\ufffd", clip_name[:MAX_TEXT_CHARS])


def message_from_json(value: bytes) -> Caption | Rejection:
    """Return the caption or rejection of a message; :class:`ValueError` where it is neither."""
    if b'"type":"captiond.clip.v1"' in value[:256]:
        return rejection_from_json(value)
    return caption_from_json(value)


def caption_from_json(value: bytes) -> Caption:
    """Return the caption of a message; :class:`ValueError` where it is none."""
    message = CaptionMessage.model_validate_json(value)
    known = message.model_dump(exclude=_BUILT)
    window, usage, frames, same_as = message.window, message.usage, message.frames, message.same_as
    return Caption(
        window=WindowSpan(window.index, window.start_ns, window.exclusive_end_ns),
        usage=Usage(**usage.model_dump()),
        frames=FramesShown(**frames.model_dump()),
        attempts=tuple(Attempt(**one.model_dump()) for one in message.attempts),
        same_as=None if same_as is None else SameAs(**same_as.model_dump()),
        stream=None if message.stream is None else _stream_window(message.stream),
        **known,
    )


def rejection_from_json(value: bytes) -> Rejection:
    """Return the rejection of a message; :class:`ValueError` where it is none."""
    message = RejectionMessage.model_validate_json(value)
    return Rejection(**message.model_dump(exclude={"schema_version", "type", "status", "clip_name", "next_window"}))


def parse_reference(value: bytes) -> ReferenceMessage:
    """Return the reference in a message's value; :class:`Poison` (``malformed``) where it is none, saying why."""
    parsed = parse_object(value, max_bytes=MAX_REFERENCE_BYTES)
    try:
        return ReferenceMessage.model_validate(parsed)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> Poison:
    fault = first_fault(error)
    return malformed(f"{clean_line(fault.path())[:64]}: {fault.message}")
