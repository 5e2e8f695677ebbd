"""The messages and their JSON Schema: the one declaration that writing, reading and schemas are made from.

One message a window (`captiond.caption.v1`) and one for a clip that could not be captioned to its end
(`captiond.clip.v1`); a file of JSON Lines holds the same messages. A clip comes in as its bytes or as a reference.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from connectors.contract import CaptionStatus
from connectors.messages.safe_text import clean_line, clean_text

SCHEMA_VERSION: Final = 1
CAPTION_TYPE: Final = "captiond.caption.v1"
CLIP_TYPE: Final = "captiond.clip.v1"

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
    reasoning_tokens: int = Field(
        default=0, description="those of output_tokens in which the model reasoned before it answered"
    )


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


def _only_where(default: Any, description: str, **bounds: Any) -> Any:
    """Return a field that is in a message only where it says something."""
    return Field(default=default, description=description, exclude_if=lambda value: value == default, **bounds)


class AttemptMessage(_Message):
    """An answer that was not good, after which the question was asked again."""

    status: CaptionStatus
    text: Text = Field(default="", description="the answer, its first characters where it is long")
    reason: str = Field(default="", description="as in the message")
    detail: Line = Field(default="", description="as in the message")
    temperature: float = Field(default=0.0, description="it was asked with")
    seed: int | None = Field(default=None, description="it was asked with")
    output_tokens: int = 0


class SameAsMessage(_Message):
    """The caption that an unchanged window has."""

    caption_id: str = Field(description="of the window that the engine described last")
    text: Text = Field(default="", description="its text")


class MissingMessage(_Message):
    """A stretch of the wall clock of which nothing of a stream was recorded."""

    wall_start: str = Field(description="as the window's")
    wall_end: str = Field(description="as the window's")
    reason: str = Field(description="a code, such as away or discarded")


class StreamMessage(_Message):
    """Which window of a live stream the clip is. What the media's times are is in ``window`` and ``frames``."""

    index: int = Field(ge=0, description="counts the strides since the epoch; no index is left out")
    wall_start: str = Field(description="RFC 3339, UTC, to the nanosecond where it is no whole millisecond")
    wall_end: str = Field(description="the same; the window ends before this instant")
    clock: Literal["sender", "arrival"] = Field(
        description="sender: the times are those that the stream brings; arrival: when its packets arrived here"
    )
    missing: tuple[MissingMessage, ...] = Field(default=(), description="what of the window was not recorded")
    thinned: bool = Field(default=False, description="captioning was behind, and the model saw half as many frames")


class CaptionMessage(_Message):
    """What the model says about one window of a clip.

    The keys from ``prompt`` on are there only where they say something: where the configuration asks for it, or the
    clip is a window of a stream.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["captiond.caption.v1"] = CAPTION_TYPE
    caption_id: str = Field(
        description="the same whenever this window is captioned again: readers drop duplicates by it"
    )
    clip_id: str = Field(description="the same at every delivery of the same clip")
    source: Line = Field(description="name of the source in the configuration")
    clip_name: str | None = Field(
        default=None, description="what the source calls the clip: a relative path, or a record"
    )
    window: WindowMessage
    text: Text = Field(
        description="the caption; empty where status is empty, error, gap or skipped, or truncated before a first word"
    )
    status: CaptionStatus = Field(
        description="truncated: cut off at max_tokens; error: the frames could not be read; invalid: not of the form "
        "that was asked for; looping: the same again and again; refused: the model declines; unchanged: the engine was "
        "not asked; gap: nothing of the stream's window was recorded; skipped: captioning was behind"
    )
    model: Line = Field(description="the model's id")
    prompt_hash: str = Field(description="of the prompt and how the answer is generated")
    plan_hash: str = Field(description="of windows, frames, prompt and model: window indices count within one plan")
    usage: UsageMessage = UsageMessage()
    frames: FramesMessage = FramesMessage()
    timing_ms: dict[str, float] = Field(default_factory=dict, description="milliseconds a stage took")
    detail: Line = Field(
        default="", description="why, where the text does not say it: status error, truncated or empty"
    )
    media_start_ns: int = Field(
        default=0,
        ge=0,
        description="when the first frame is shown on the container's own clock, from where that starts, nanoseconds: "
        "a window's times and this make the time that a player shows",
    )
    prompt: str | None = _only_where(None, "name of the question, where windows are asked several")
    data: Any = _only_where(None, "the answer as JSON, where the question has a schema and the answer fits it")
    reason: str = _only_where(
        "", "a code beside status invalid, looping, refused, gap or skipped, such as not_json; detail has words"
    )
    attempts: tuple[AttemptMessage, ...] = _only_where((), "what was tried before this answer, the first first")
    input: str | None = _only_where(None, "black, frozen or unreadable, where the picture shows nothing to describe")
    same_as: SameAsMessage | None = _only_where(None, "the caption that an unchanged window has")
    context_windows: int | None = _only_where(
        None, "how many windows before this one the model was told of, where it is to be told", ge=0
    )
    stream: StreamMessage | None = _only_where(None, "which window of a live stream this is")


class RejectionMessage(_Message):
    """Why a clip could not be captioned, or not to its end."""

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["captiond.clip.v1"] = CLIP_TYPE
    status: Literal["rejected"] = "rejected"
    clip_id: str = Field(description="the same at every delivery of the same clip")
    source: Line = Field(description="name of the source in the configuration")
    clip_name: str | None = Field(
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
