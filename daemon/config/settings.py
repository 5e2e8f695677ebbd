"""Every setting of captiond, declared once: its type, its default and what it means.

The sections are frozen pydantic models; an unknown key, a wrong type or two settings that contradict each other is a
:class:`ConfigurationError` that names the key's path. ``config/captiond.yaml`` shows every key with its default.
:mod:`daemon.config.file` reads the file, the environment and the overrides.
"""

import re
from dataclasses import replace
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
from connectors.settings import NAME, AnySource, Questions, SinkSettings, SourceSettings
from daemon.config.chosen import AUTO, choose_bytes, choose_clips, choose_decoders, chosen_by
from daemon.config.engine_settings import EngineSettings, VllmSettings
from daemon.config.frame_presets import Preset, preset_keys
from daemon.config.prompt_settings import ContextSettings as ContextSettings
from daemon.config.prompt_settings import PromptSettings as PromptSettings
from daemon.config.prompt_settings import QualitySettings as QualitySettings
from daemon.config.windows_settings import WindowsSettings as WindowsSettings
from daemon.frame_look import ON_DEVICE
from daemon.windows import FramePolicy

# what the model's own file may say as `vllm serve` takes it; the length of a caption is captiond's to bound
FROM_MODEL = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"
)  # fmt: skip


class FramesSettings(Section):
    """The frames of a window that the model sees."""

    preset: Preset | None = Field(None, description="what a family's authors publish, for the keys that are left out")
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
    max_pixels: PositiveInt | None = Field(None, description="a frame goes to the model with at most so many pixels")
    max_vision_tokens: PositiveInt | None = Field(
        None, description="frames shrink until a window's cost the model at most so many tokens"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fps is not None and "num_frames" in self.model_fields_set:
            raise ValueError("fps and num_frames contradict each other: keep one of them")
        if self.fps is not None and self.rule == "neva":
            raise ValueError("rule: neva takes num_frames, not fps")
        if self.preset is not None and self.rule == "neva":
            raise ValueError(f"rule: neva is a choice of frames of its own, and preset: {self.preset} another")
        if self.hwaccel != "none" and self.decoder == "decord":
            raise ValueError("hwaccel needs decoder: av, for decord decodes on the processor")
        policy = self.to_policy()
        if policy.min_frames > policy.max_frames:
            raise ValueError(f"min_frames ({policy.min_frames}) is above max_frames ({policy.max_frames})")
        return self

    @property
    def decodes_with(self) -> str:
        """The decoder, as the sampler names it."""
        return self.decoder if self.hwaccel == "none" else ON_DEVICE

    def to_policy(self) -> FramePolicy:
        """Return the same as the planner takes it, with the preset's keys where none are given."""
        policy = FramePolicy(
            *(self.rule, self.num_frames, self.fps, self.min_frames, self.max_frames, self.splice_single_frame),
            *(self.snap, self.background.lower(), self.tone_map, self.max_pixels, self.max_vision_tokens),
        )
        return replace(policy, **preset_keys(self.preset, frozenset(self.model_fields_set)))


class GenerationSettings(Section):
    """The generation of the answer, which is greedy unless temperature is above 0."""

    max_tokens: PositiveInt = Field(256, description="at most so many tokens a caption")
    min_tokens: int = Field(0, ge=0, description="at least so many")
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling")
    top_k: int = Field(0, ge=0, description="0 is off")
    repetition_penalty: PositiveFloat = Field(1.0, description="1 is off")
    min_p: float = Field(0.0, ge=0, le=1, description="0 is off")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="on tokens that came already; 0 is off")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="on tokens by how often they came; 0 is off")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="strings that end a caption")
    ignore_eos: bool = Field(False, description="whether the answer goes on behind its end, up to max_tokens")
    seed: int | None = Field(None, description="for sampling that can be repeated")
    retries: int | None = Field(
        None,
        ge=0,
        le=8,
        description="how often a question is asked again whose answer is not good; null: 1 where a form, quality.loops "
        "or quality.refusals says what good is, else 0",
    )
    from_model: bool = Field(
        False, description="whether the model's own generation_config.json says how to sample, where no key here does"
    )
    reasoning: Literal["off", "strip", "keep"] = Field(
        "off", description="of models that think: turned off, cut out of the caption, or left in it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) is above max_tokens ({self.max_tokens})")
        return self

    @property
    def left_to_model(self) -> tuple[str, ...]:
        """The sampling settings that the model's own file decides."""
        return tuple(name for name in FROM_MODEL if name not in self.model_fields_set) if self.from_model else ()


def _vllm_unless_said(values: Any) -> Any:
    """Let an engine without a kind be vLLM."""
    return {"kind": "vllm", **values} if isinstance(values, dict) else values


class LimitsSettings(Section):
    """The most that captiond holds and accepts."""

    max_clips_in_flight: Annotated[PositiveInt, chosen_by(choose_clips)] = Field(
        AUTO, description="clips worked on at once, over all sources; auto: by cores, and by the engine's slots"
    )
    in_flight_bytes: Annotated[Bytes, chosen_by(choose_bytes)] = Field(
        AUTO, description="decoded frames and encoded clips together; auto: by the memory there is"
    )
    rendered_bytes: Bytes | None = Field(
        None, description="what the model's requests hold until they are answered; null: a quarter of the memory"
    )
    max_clip_bytes: Bytes = Field(2 * 2**30, description="a larger clip is rejected")
    max_pixels: PositiveInt = Field(8_912_896, description="width x height of a frame; 8,912,896 is 4096 x 2176")
    max_picture_pixels: PositiveInt = Field(
        67_108_864, description="the same of a picture that is one frame; 67,108,864 is 8192 x 8192"
    )
    max_duration_s: PositiveFloat = Field(86_400.0, description="a longer clip is rejected")
    decoders: Annotated[PositiveInt, chosen_by(choose_decoders)] = Field(
        AUTO, description="decoding processes; auto: by cores and memory"
    )
    decoder_memory_bytes: Bytes = Field(4 * 2**30, description="address space of one decoding process")
    decode_s_per_clip_minute: PositiveFloat = Field(
        60.0, description="processor seconds that decoding may take for each minute of a clip, and for a shorter clip"
    )
    backfill_share: float = Field(
        0.1, ge=0, le=1, description="of the turns, what sources with priority: backfill are sure of while others wait"
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


class WebSettings(Section):
    """The page that `http` serves: how much of what was published it shows, and who may see and change more."""

    keep: NonNegativeInt = Field(
        1000, le=100_000, description="the last captions and rejections that are shown, with small pictures; 0: none"
    )
    token_file: Path | None = Field(
        None, description="a file whose token shows media and replays clips; null: one is made in state_dir"
    )


class Settings(Section):
    """The whole configuration."""

    sources: dict[str, SourceSettings] = Field(min_length=1)
    sink: SinkSettings
    windows: WindowsSettings = WindowsSettings()
    frames: FramesSettings = FramesSettings()
    prompt: PromptSettings = PromptSettings()
    prompts: dict[Annotated[str, Field(pattern=NAME)], PromptSettings] = Field(
        default_factory=dict, description="several questions a window, by name; their keys win over prompt's"
    )
    context: ContextSettings = ContextSettings()
    quality: QualitySettings = QualitySettings()
    generation: GenerationSettings = GenerationSettings()
    engine: Annotated[EngineSettings, BeforeValidator(_vllm_unless_said)] = VllmSettings()
    delivery: Literal["at_least_once", "transactional"] = "at_least_once"
    commit_interval_ms: PositiveInt = 100
    limits: LimitsSettings = LimitsSettings()
    timeouts: TimeoutsSettings = TimeoutsSettings()
    state_dir: Path = Path("state")
    http: HttpSettings | None = HttpSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _sink_knows_the_questions(self) -> Self:
        questions = {name: self._questions_of(source) for name, source in self.sources.items()}
        self.sink.know(Questions(questions))
        return self

    def _questions_of(self, source: AnySource) -> dict[str, str | None]:
        """Return the names of a source's questions, each with the pointer into its answers' data."""
        usual = source.prompt.get("vtt_text", self.prompt.vtt_text)
        for name in own_questions(source):
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r} can't be the name of a question: letters, digits, dots, _ and - can")
        return {name: one.get("vtt_text", usual) for name, one in self.questions(source).items()} or {"": usual}

    def questions(self, source: AnySource) -> dict[str, dict[str, Any]]:
        """Return the keys of each of a source's questions by its name; none where it asks one without a name."""
        return own_questions(source) or {name: one.model_dump(exclude_unset=True) for name, one in self.prompts.items()}


def own_questions(source: AnySource) -> dict[str, dict[str, Any]]:
    """Return the questions that a source asks instead of the top level's; those of its topics are texts."""
    return {name: asked for name, asked in source.prompts.items() if isinstance(asked, dict)}
