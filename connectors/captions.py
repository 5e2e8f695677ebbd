"""The captions of windows: what a model says about a span of a clip, from which frames, and how that ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class WindowSpan:
    """The half-open span ``[start_ns, exclusive_end_ns)`` of window ``index``, in media time from the first frame."""

    index: int
    start_ns: int
    exclusive_end_ns: int

    def __post_init__(self) -> None:
        if self.index < 0 or not 0 <= self.start_ns < self.exclusive_end_ns:
            raise ValueError(f"no such window: {self}")


class CaptionStatus(StrEnum):
    """How a window's description ended."""

    SUCCESS = "success"
    TRUNCATED = "truncated"  # the model was cut off at generation.max_tokens
    EMPTY = "empty"  # the model said nothing
    ERROR = "error"  # the window's frames could not be read, windows after it can
    INVALID = "invalid"  # the answer does not fit the schema, the choice or the expression that was asked for
    LOOPING = "looping"  # the model says the same again and again
    REFUSED = "refused"  # the model declines to answer
    UNCHANGED = "unchanged"  # the engine was not asked: the picture is as one that was described before
    GAP = "gap"  # of a stream: nothing of the window was recorded
    SKIPPED = "skipped"  # of a stream: captioning was behind, and the configuration has windows left out then


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, 0 where the engine does not say; of the output, those of reasoning are no answer."""

    prompt_tokens: int = 0
    vision_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class FramesShown:
    """Which frames a window's model input held: their time stamps, and how far they are from what was asked for.

    ``distinct_frames`` is below ``len(pts_ns)`` where frames repeat; ``substituted_frames`` counts those that the
    decoder did not give and that the frame before stands in for; ``snap`` is ``keyframe`` where exactness was traded.
    """

    pts_ns: tuple[int, ...] = ()
    distinct_frames: int = 0
    substituted_frames: int = 0
    snap: str = "exact"
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's natural log-probability; ``top`` are the likeliest tokens at its step, likeliest first."""

    token: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer that was not good, after which the question was asked again; ``reason`` as a caption has it."""

    status: CaptionStatus
    text: str = ""
    reason: str = ""
    detail: str = ""
    temperature: float = 0.0
    seed: int | None = None
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SameAs:
    """The caption that an unchanged window has: its id and its text."""

    caption_id: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch of the wall clock of which nothing of a stream was recorded, and a code for why."""

    start_ns: int
    exclusive_end_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """A window of a stream: ``[start_ns, exclusive_end_ns)`` of the wall clock, in nanoseconds since the epoch.

    ``index`` counts from the epoch, so that windows of several streams line up. ``clock`` is whose clock that is: the
    ``sender``'s, or that of the packets' ``arrival``. With ``thinned`` the model sees half as many frames.
    ``arrived_ns`` is when the last packet of it arrived; no message has it.
    """

    index: int
    start_ns: int
    exclusive_end_ns: int
    clock: str = "arrival"
    missing: tuple[Missing, ...] = ()
    thinned: bool = False
    arrived_ns: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.index < 0 or not 0 <= self.start_ns < self.exclusive_end_ns:
            raise ValueError(f"no such window of a stream: {self}")

    @property
    def is_mostly_missing(self) -> bool:
        """Whether more of it is missing than was recorded."""
        missing_ns = sum(one.exclusive_end_ns - one.start_ns for one in self.missing)
        return 2 * missing_ns > self.exclusive_end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Caption:
    """What the model says about one window of a clip. ``caption_id`` is the same whenever the window is done again.

    ``media_start_ns`` is when the clip's first frame is shown on the container's own clock, from where that starts:
    with the window's times it makes the time that a player shows. ``logprobs`` has an entry for each token of the text,
    and is None where the prompt does not ask for them; messages leave them out.

    What follows is in a message only where the configuration asks for it, each as the message's schema says:
    ``prompt`` names the question, ``data`` is the answer as JSON, ``reason`` a code for a status that is not good,
    ``attempts`` what was tried before, ``input`` what is wrong with the picture, ``same_as`` the caption of an
    unchanged window, ``context_windows`` the number of windows before that the model was told of, and ``stream`` says
    which window of a stream the clip is.
    """

    caption_id: str
    clip_id: str
    source: str
    window: WindowSpan
    text: str
    status: CaptionStatus
    model: str
    prompt_hash: str
    plan_hash: str
    usage: Usage = Usage()
    frames: FramesShown = FramesShown()
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None, repr=False, compare=False)
    media_start_ns: int = 0
    prompt: str | None = None
    data: Any = None
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()
    input: str | None = None
    same_as: SameAs | None = None
    context_windows: int | None = None
    stream: StreamWindow | None = None
