"""The message format: JSON values, their JSON Schema and their CloudEvents headers.

One message a window (`captiond.caption.v1`) and one for a clip that could not be captioned to its end
(`captiond.clip.v1`); a file of JSON Lines holds the same messages. In comes a clip's bytes or a reference to them. The
classes here are the one declaration that messages, schemas and parsing are made from.
"""

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from connectors.contract import Caption, CaptionStatus, FramesShown, Rejection, Usage, WindowSpan
from connectors.errors import Poison
from connectors.messages.safe_text import clean_line, clean_text
from connectors.messages.strict_json import malformed, parse_object
from connectors.validation import first_fault

SCHEMA_VERSION: Final = 1
CAPTION_TYPE: Final = "captiond.caption.v1"
CLIP_TYPE: Final = "captiond.clip.v1"
MAX_REFERENCE_BYTES = 64 * 1024  # a prompt of 32,768 characters and a path fit; a clip does not

Headers = list[tuple[str, bytes]]
Text = Annotated[str, BeforeValidator(clean_text)]
Line = Annotated[str, BeforeValidator(clean_line)]


class _Message(BaseModel):
    """Readers ignore keys they do not know, so that a later version can add some."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class WindowMessage(_Message):
    """A half-open span of media time, from the first frame shown."""

    index: int = Field(ge=0, description="0 for the first window of the clip")
    start_ns: int = Field(ge=0, description="nanoseconds")
    exclusive_end_ns: int = Field(gt=0, description="nanoseconds; the window ends before this instant")


class UsageMessage(_Message):
    """Tokens of the request, as the engine counted them; 0 where it does not say."""

    prompt_tokens: int = 0
    vision_tokens: int = 0
    output_tokens: int = 0


class FramesMessage(_Message):
    """Which frames the model saw."""

    pts_ns: tuple[int, ...] = Field(default=(), description="time stamp of each frame shown, nanoseconds of media time")
    distinct_frames: int = Field(
        default=0, description="how many of them differ; frames repeat where a window has too few"
    )
    substituted_frames: int = Field(default=0, description="how many could not be decoded and show the frame before")
    snap: str = Field(default="exact", description="keyframe: the key frame before each chosen frame was shown")
    width: int = Field(default=0, description="of the frames as sampled, pixels")
    height: int = Field(default=0, description="of the frames as sampled, pixels")


class CaptionMessage(_Message):
    """What the model says about one window of a clip."""

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["captiond.caption.v1"] = CAPTION_TYPE
    caption_id: str = Field(
        description="the same whenever this window is captioned again: readers drop duplicates by it"
    )
    clip_id: str = Field(description="the same at every delivery of the same clip")
    source: Line = Field(description="name of the source in the configuration")
    clip_name: Line | None = Field(
        default=None, description="what the source calls the clip: a relative path, or a record"
    )
    window: WindowMessage
    text: Text = Field(description="the caption; empty where status is empty or error")
    status: CaptionStatus = Field(description="truncated: cut off at max_tokens; error: the frames could not be read")
    model: Line = Field(description="the model's id")
    prompt_hash: str = Field(description="of the prompt and how the answer is generated")
    plan_hash: str = Field(description="of windows, frames, prompt and model: window indices count within one plan")
    usage: UsageMessage = UsageMessage()
    frames: FramesMessage = FramesMessage()
    timing_ms: dict[str, float] = Field(default_factory=dict, description="milliseconds a stage took")
    detail: Line = Field(default="", description="why, where status is error")


class RejectionMessage(_Message):
    """Why a clip could not be captioned, or not to its end."""

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["captiond.clip.v1"] = CLIP_TYPE
    status: Literal["rejected"] = "rejected"
    clip_id: str = Field(description="the same at every delivery of the same clip")
    source: Line = Field(description="name of the source in the configuration")
    clip_name: Line | None = Field(
        default=None, description="what the source calls the clip: a relative path, or a record"
    )
    reason: str = Field(description="a code, such as truncated or not_a_video")
    detail: Line = Field(description="for people; no path of the machine")
    origin: str = Field(description="who found out: source, sampler, prompt or engine")
    attempts: int = Field(default=1, description="how often it was tried")
    next_window: int | None = Field(default=None, description="the first window without a caption")


class ReferenceMessage(BaseModel):
    """A clip that lies somewhere else. Where no one allowed that place, the clip is rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    uri: str = Field(min_length=1, max_length=4096, description="a path under an allowed folder, or an allowed URL")
    clip_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=r"^[!-~]+$",
        description="made from the record's place if left out",
    )
    prompt: str | None = Field(default=None, min_length=1, max_length=32_768, description="a question of its own")


def caption_to_json(caption: Caption, clip_name: str | None = None) -> bytes:
    """Return a caption's message: one line of UTF-8 without a line end."""
    message = CaptionMessage.model_validate(caption)
    message.clip_name = _named(clip_name)
    return message.model_dump_json().encode()


def rejection_to_json(rejection: Rejection, clip_name: str | None = None, next_window: int | None = None) -> bytes:
    """Return a rejection's message: one line of UTF-8 without a line end."""
    message = RejectionMessage.model_validate(rejection)
    message.clip_name, message.next_window = _named(clip_name), next_window
    return message.model_dump_json().encode()


def _named(clip_name: str | None) -> str | None:
    return None if clip_name is None else clean_line(clip_name)


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
        raise _first_fault(error) from error


def _first_fault(error: ValidationError) -> Poison:
    fault = first_fault(error)
    return malformed(f"{clean_line(fault.path())[:64]}: {fault.message}")


def caption_headers(caption: Caption, time_ns: int | None = None) -> Headers:
    """Return the CloudEvents headers of a caption (binary content mode)."""
    return _headers(CAPTION_TYPE, caption.caption_id, caption.source, caption.clip_id, time_ns)


def rejection_headers(rejection: Rejection, time_ns: int | None = None) -> Headers:
    """Return the CloudEvents headers of a rejection; its id is the same whenever the clip is rejected again."""
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
    return [(name, value.encode()) for name, value in attributes.items()]


def schemas() -> Mapping[str, dict[str, Any]]:
    """Return the JSON Schema of each message by its name."""
    declared: dict[str, type[BaseModel]] = {
        "caption": CaptionMessage,
        "rejection": RejectionMessage,
        "reference": ReferenceMessage,
    }
    return {name: _schema(name, model) for name, model in declared.items()}


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:captiond:{name}:v{SCHEMA_VERSION}",
    }
    mode: Literal["validation", "serialization"] = "validation" if model is ReferenceMessage else "serialization"
    return head | model.model_json_schema(mode=mode)
