"""The settings of pretraining, under NeVA's own names where NeVA has one."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Settings(BaseModel):
    """A part of the settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainerSettings(Settings):
    """How long and how exactly."""

    max_steps: PositiveInt = Field(default=3000, description="optimiser steps with the whole model")
    precision: Literal["32", "bf16"] = Field(
        default="32", description="bf16: matrix products in bfloat16, weights in float32"
    )
    gradient_clip_val: NonNegativeFloat = Field(default=1.0, description="largest norm of the gradient; 0 is off")
    log_every_n_steps: PositiveInt = Field(default=20, description="steps from one line of the log to the next")
    num_threads: PositiveInt = Field(default=2, description="CPU threads")

    @model_validator(mode="before")
    @classmethod
    def _number_as_text(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("precision"), int):
            return values | {"precision": str(values["precision"])}
        return values


class ExpManagerSettings(Settings):
    """Where the run keeps what it makes."""

    exp_dir: Path = Field(default=Path("build/pretrain"), description="checkpoints, cached frames, log and loss curve")
    resume_if_exists: bool = Field(default=True, description="go on from the last checkpoint there")
    every_n_train_steps: PositiveInt = Field(default=500, description="steps from one checkpoint to the next")
    export_dir: Path = Field(
        default=Path("build/pretrain/model"), description="the finished model in Hugging Face's layout"
    )


class LlmSettings(Settings):
    """The language model."""

    from_pretrained: str | None = Field(default=None, description="a Hugging Face name or folder; null: new weights")
    freeze: bool = Field(default=False, description="leave its weights as they are")
    model_type: str = Field(default="v1", description="the family of conversations, as NeVA names it")


class VisionEncoderSettings(Settings):
    """The CLIP tower."""

    from_pretrained: str | None = Field(default=None, description="a Hugging Face name or folder; null: new weights")
    freeze: bool = Field(default=False, description="leave its weights as they are")
    crop_size: tuple[PositiveInt, PositiveInt] = Field(default=(64, 64), description="height and width in px")
    patch_dim: PositiveInt = Field(default=16, description="side of a patch in px")
    hidden_size: PositiveInt = Field(default=128, description="width")
    ffn_hidden_size: PositiveInt = Field(default=512, description="width of the MLP")
    num_layers: PositiveInt = Field(default=4, description="layers")
    num_attention_heads: PositiveInt = Field(default=4, description="heads")
    vision_select_layer: int = Field(default=-1, description="the layer whose features are used; -1 is the last")


class MmSettings(Settings):
    """The parts that see."""

    llm: LlmSettings = LlmSettings()
    vision_encoder: VisionEncoderSettings = VisionEncoderSettings()
    mm_mlp_adapter_type: Literal["mlp2x_gelu"] = Field(default="mlp2x_gelu", description="the projector")
    freeze_mm_mlp_adapter: bool = Field(default=False, description="leave the projector's weights as they are")


class ScheduleSettings(Settings):
    """How the learning rate goes."""

    name: Literal["OneCycle", "CosineAnnealing"] = "OneCycle"
    warmup_steps: NonNegativeInt = Field(default=300, description="steps up to the full rate")
    min_lr: NonNegativeFloat = Field(default=0.0, description="the rate at the end")


class OptimSettings(Settings):
    """The optimiser."""

    name: Literal["adamw", "fused_adam"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    sched: ScheduleSettings = ScheduleSettings()


class ShapesSettings(Settings):
    """Synthetic clips of moving shapes (neva/shapes.py), and the losses that only they have labels for."""

    clips: PositiveInt = Field(default=12_000, description="training clips")
    held_out_clips: PositiveInt = Field(default=2_000, description="clips of other seeds, for scoring")
    workers: PositiveInt = Field(default=2, description="processes that make them")
    tower_steps: NonNegativeInt = Field(
        default=1_000, description="steps of the tower alone on single frames, at the start"
    )
    tower_batch_size: PositiveInt = Field(default=256, description="single frames a step")
    frame_loss_weight: NonNegativeFloat = Field(
        default=0.3, description="colour, shape and place of each frame, to the end"
    )
    motion_loss_weight: NonNegativeFloat = Field(
        default=10.0, description="place and displacement, from the language model"
    )
    motion_loss_until: float = Field(
        default=0.8, gt=0, le=1, description="the share of the steps by which that has faded"
    )


class DataSettings(Settings):
    """What is learned from."""

    media_type: Literal["video", "image"] = "video"
    num_frames: PositiveInt = Field(default=8, description="frames a clip")
    shapes: ShapesSettings = ShapesSettings()


class ModelSettings(Settings):
    """The model and how it is trained; the sizes at this level are the language model's."""

    micro_batch_size: PositiveInt = Field(default=32, description="clips a step")
    seed: NonNegativeInt = 1234
    encoder_seq_length: PositiveInt = Field(default=4096, description="longest prompt plus answer, in tokens")
    vocab_size: PositiveInt = Field(default=640, description="a multiple of 64")
    hidden_size: PositiveInt = 128
    ffn_hidden_size: PositiveInt = 384
    num_layers: PositiveInt = 3
    num_attention_heads: PositiveInt = 4
    num_query_groups: PositiveInt | None = Field(
        default=None, description="key and value heads; null: as many as heads"
    )
    mm_cfg: MmSettings = MmSettings()
    optim: OptimSettings = OptimSettings()
    data: DataSettings = DataSettings()

    @model_validator(mode="after")
    def _servable(self) -> Self:
        if self.vocab_size % 64:
            raise ValueError(f"model.vocab_size is a multiple of 64, not {self.vocab_size}: vLLM pads it otherwise")
        return self


class PretrainSettings(Settings):
    """The whole file."""

    name: str = "video-neva"
    trainer: TrainerSettings = TrainerSettings()
    exp_manager: ExpManagerSettings = ExpManagerSettings()
    model: ModelSettings = ModelSettings()


def read_settings(path: Path, overrides: list[str]) -> PretrainSettings:
    """Return the settings in ``path`` with ``key.path=value`` overrides applied; relative paths are the file's."""
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ValueError(f"write an override as key.path=value, not {override!r}")
        *parents, last = key.lstrip("+").split(".")
        at = values
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = yaml.safe_load(value)
    settings = PretrainSettings.model_validate(values)
    folder = path.resolve().parent
    places = settings.exp_manager
    absolute = {name: (folder / getattr(places, name)).resolve() for name in ("exp_dir", "export_dir")}
    return settings.model_copy(update={"exp_manager": places.model_copy(update=absolute)})
