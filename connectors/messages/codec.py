"""Messages to JSON and back: captions and rejections both ways, and references from outside."""

import re

from pydantic import ValidationError
from pydantic_core import to_json

from connectors.contract import Caption, FramesShown, Rejection, Usage, WindowSpan
from connectors.errors import Poison
from connectors.messages.safe_text import MAX_TEXT_CHARS, clean_line, clean_text, escaped_json
from connectors.messages.schema import CAPTION_TYPE, SCHEMA_VERSION, CaptionMessage, ReferenceMessage, RejectionMessage
from connectors.messages.strict_json import malformed, parse_object
from connectors.validation import first_fault

_NO_TEXT = re.compile("[\ud800-\udfff]")

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
        "status": caption.status,
        "model": clean_line(caption.model),
        "prompt_hash": caption.prompt_hash,
        "plan_hash": caption.plan_hash,
        "usage": caption.usage,
        "frames": caption.frames,
        "timing_ms": dict(caption.timing_ms),
        "detail": clean_line(caption.detail),
        "media_start_ns": caption.media_start_ns,
    }
    return escaped_json(to_json(message, inf_nan_mode="null").decode()).encode()


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
    known = message.model_dump(exclude={"schema_version", "type", "clip_name", "window", "usage", "frames"})
    window, usage, frames = message.window, message.usage, message.frames
    return Caption(
        window=WindowSpan(window.index, window.start_ns, window.exclusive_end_ns),
        usage=Usage(**usage.model_dump()),
        frames=FramesShown(**frames.model_dump()),
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
