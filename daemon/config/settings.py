"""Every setting of captiond, declared once: its type, its default and what it means.

The sections are frozen pydantic models; an unknown key, a wrong type or two settings that contradict each other is a
:class:`ConfigurationError` that names the key's path. ``config/captiond.yaml`` shows every key with its default.
:mod:`daemon.config.file` reads the file, the environment and the overrides.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from connectors.section import Bytes, Section
from connectors.settings import SinkSettings, SourceSettings
from daemon.config.engine_settings import EngineSettings, VllmSettings
from daemon.frame_look import ON_DEVICE
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy

_LONGEST_S = 1e9  # thirty years; its nanoseconds fit 64 bits


def _as_number(value: Any) -> float | None:
    """Return a number that may stand as text, as those from the environment do; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


class WindowsSettings(Section):
    """The windows that a clip is divided into."""

    policy: Literal["seconds", "whole"] = Field("seconds", description="windows of window_s, or the whole clip as one")
    window_s: PositiveFloat = Field(10.0, le=_LONGEST_S, description="length of a window")
    stride_s: PositiveFloat = Field(
        10.0, le=_LONGEST_S, description="from one window's start to the next; window_s if left out"
    )
    min_tail_s: float = Field(5.0, ge=0, description="a shorter tail joins the window before; half of window_s")

    @model_validator(mode="before")
    @classmethod
    def _follow_window(cls, values: Any) -> Any:
        """Let stride_s and min_tail_s follow a window_s that is given alone."""
        window_s = _as_number(values.get("window_s")) if isinstance(values, dict) else None
        if window_s is None or values.get("policy", "seconds") == "whole":
            return values
        return {"stride_s": window_s, "min_tail_s": window_s / 2, **values}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy == "whole" and {"window_s", "stride_s", "min_tail_s"} & self.model_fields_set:
            raise ValueError("policy: whole contradicts window_s, stride_s and min_tail_s")
        if self.stride_s > self.window_s:
            raise ValueError(f"stride_s ({self.stride_s}) above window_s ({self.window_s}) would leave gaps")
        if self.min_tail_s > self.window_s:
            raise ValueError(f"min_tail_s ({self.min_tail_s}) is above window_s ({self.window_s})")
        return self

    def to_policy(self) -> WindowPolicy:
        """Return the same in integer nanoseconds."""
        window_ns, stride_ns, min_tail_ns = (
            round(seconds * NS_PER_S) for seconds in (self.window_s, self.stride_s, self.min_tail_s)
        )
        return WindowPolicy(window_ns, stride_ns, min_tail_ns, whole=self.policy == "whole")


class FramesSettings(Section):
    """The frames of a window that the model sees."""

    rule: Literal["time", "neva"] = Field("time", description="evenly spread times, or NeVA's evenly spread frames")
    num_frames: PositiveInt = Field(8, le=4096, description="frames a window")
    fps: PositiveFloat | None = Field(None, description="instead of num_frames: frames a second of the window")
    min_frames: PositiveInt = Field(4, description="with fps: at least so many")
    max_frames: PositiveInt = Field(64, le=4096, description="with fps: at most so many")
    splice_single_frame: Literal["first", "middle", "last"] | None = Field(None, description="show this frame alone")
    snap: Literal["exact", "keyframe"] = Field("exact", description="keyframe: faster, and every caption says so")
    decoder: Literal["av", "decord"] = Field("av", description="PyAV, or decord for parity with NeVA")
    hwaccel: Literal["none", "auto", "cuda"] = Field(
        "none", description="decode on a graphics card where that can: auto, whichever there is; cuda, NVIDIA's"
    )
    background: str = Field(
        "white", pattern=r"^(white|grey|black|#[0-9a-fA-F]{6})$", description="the colour behind transparent pixels"
    )
    tone_map: Literal["auto", "none"] = Field(
        "auto", description="auto: HDR is shown as SDR; none: its code values are"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fps is not None and "num_frames" in self.model_fields_set:
            raise ValueError("fps and num_frames contradict each other: keep one of them")
        if self.fps is not None and self.rule == "neva":
            raise ValueError("rule: neva takes num_frames, not fps")
        if self.hwaccel != "none" and self.decoder == "decord":
            raise ValueError("hwaccel needs decoder: av, for decord decodes on the processor")
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames ({self.min_frames}) is above max_frames ({self.max_frames})")
        return self

    @property
    def decodes_with(self) -> str:
        """The decoder, as the sampler names it."""
        return self.decoder if self.hwaccel == "none" else ON_DEVICE

    def to_policy(self) -> FramePolicy:
        """Return the same as the planner takes it."""
        return FramePolicy(
            *(self.rule, self.num_frames, self.fps, self.min_frames, self.max_frames, self.splice_single_frame),
            *(self.snap, self.background.lower(), self.tone_map),
        )


class PromptSettings(Section):
    """The question to the model."""

    text: str = Field("Describe this video.", min_length=1, max_length=32_768, description="the question")
    template: str = Field("auto", description="auto: the model's own chat template; or one of NeVA's conversations")
    system: str | None = Field(None, description="a system message, where the template has one")


class GenerationSettings(Section):
    """The generation of the answer, which is greedy unless temperature is above 0."""

    max_tokens: PositiveInt = Field(256, description="at most so many tokens a caption")
    min_tokens: int = Field(0, ge=0, description="at least so many")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling")
    top_k: int = Field(0, ge=0, description="0 is off")
    repetition_penalty: PositiveFloat = Field(1.0, description="1 is off")
    stop: tuple[str, ...] = Field((), description="strings that end a caption")
    seed: int | None = Field(None, description="for sampling that can be repeated")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) is above max_tokens ({self.max_tokens})")
        return self


def _vllm_unless_said(values: Any) -> Any:
    """Let an engine without a kind be vLLM."""
    return {"kind": "vllm", **values} if isinstance(values, dict) else values


class LimitsSettings(Section):
    """The most that captiond holds and accepts."""

    max_clips_in_flight: PositiveInt = Field(64, description="clips worked on at once, over all sources")
    in_flight_bytes: Bytes = Field(2**30, description="decoded frames and encoded clips together")
    rendered_bytes: Bytes | None = Field(
        None, description="what the model's requests hold until they are answered; null: a quarter of the memory"
    )
    max_clip_bytes: Bytes = Field(2 * 2**30, description="a larger clip is rejected")
    max_pixels: PositiveInt = Field(8_912_896, description="width x height of a frame; 8,912,896 is 4096 x 2176")
    max_picture_pixels: PositiveInt = Field(
        67_108_864, description="the same of a picture that is one frame; 67,108,864 is 8192 x 8192"
    )
    max_duration_s: PositiveFloat = Field(86_400.0, description="a longer clip is rejected")
    decoders: PositiveInt = Field(2, description="decoding processes")
    decoder_memory_bytes: Bytes = Field(4 * 2**30, description="address space of one decoding process")
    decode_s_per_clip_minute: PositiveFloat = Field(
        60.0, description="processor seconds that decoding may take for each minute of a clip, and for a shorter clip"
    )
    alike_failures: NonNegativeInt = Field(
        5,
        description="a source pauses when so many clips in a row fail for one reason that is not theirs; 0 is off",
    )
    sandbox: Literal["required", "best"] = Field(
        "required", description="whether decoders run only where the kernel can confine them, or as far as it can"
    )


class TimeoutsSettings(Section):
    """The times for which captiond waits before it acts."""

    drain_s: PositiveFloat = Field(60.0, description="a stop finishes the windows in flight within this")
    request_deadline_s: PositiveFloat = Field(120.0, description="a request to the engine is aborted after this")
    stall_s: PositiveFloat = Field(180.0, description="an engine without progress for this long is dead")
    decode_deadline_s: PositiveFloat = Field(60.0, description="decoding one window takes at most this")
    render_deadline_s: PositiveFloat = Field(120.0, description="rendering one window takes at most this, once begun")
    max_attempts: PositiveInt = Field(3, description="tries before a clip is rejected")


class LogSettings(Section):
    """The level and the format of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json", "journal"] = "text"


class HttpSettings(Section):
    """The address of /livez, /readyz, /metrics and the status page; null turns them off."""

    listen: str | None = Field("127.0.0.1:8480", pattern=r"^[^:\s]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$")
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$|^\[[0-9a-fA-F:]+\]$")], ...] = Field(
        (), description="other names, without a port, by which requests may ask for it"
    )


class Settings(Section):
    """The whole configuration."""

    sources: dict[str, SourceSettings] = Field(min_length=1)
    sink: SinkSettings
    windows: WindowsSettings = WindowsSettings()
    frames: FramesSettings = FramesSettings()
    prompt: PromptSettings = PromptSettings()
    generation: GenerationSettings = GenerationSettings()
    engine: Annotated[EngineSettings, BeforeValidator(_vllm_unless_said)] = VllmSettings()
    delivery: Literal["at_least_once", "transactional"] = "at_least_once"
    commit_interval_ms: PositiveInt = 100
    limits: LimitsSettings = LimitsSettings()
    timeouts: TimeoutsSettings = TimeoutsSettings()
    state_dir: Path = Path("state")
    http: HttpSettings | None = HttpSettings()
    log: LogSettings = LogSettings()
