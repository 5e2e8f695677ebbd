"""The settings of Video NeVA's two training stages, under NeVA's own names, and its defaults for them.

The first stage, ``pretrain``, learns the projector with everything else frozen; the second, ``finetune``, learns the
language model too. :mod:`neva.training.config_file` reads the file.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from connectors.section import Section
from neva.conversations import TEMPLATES
from neva.media_settings import MediaSettings
from neva.training.adapters.settings import PeftSettings
from neva.training.run.settings import ExpManagerSettings, ImportSettings, TrainerSettings

Stage = Literal["pretrain", "finetune"]


class LlmSettings(Section):
    """The language model."""

    from_pretrained: str | None = Field(default=None, description="a folder or a Hugging Face name; null: new weights")
    freeze: bool = Field(default=True, description="leave its weights as they are")
    model_type: str = Field(default="llama_2", description="the family of conversations, as NeVA names it")


class VisionEncoderSettings(Section):
    """The vision tower. Sizes are for new weights; a trained tower has its own."""

    from_pretrained: str | None = Field(default=None, description="a folder or a Hugging Face name; null: new weights")
    from_hf: Literal[True] = Field(default=True, description="towers are Hugging Face's CLIP or SigLIP")
    freeze: bool = Field(default=True, description="leave its weights as they are")
    crop_size: tuple[PositiveInt, PositiveInt] = Field(default=(336, 336), description="height and width in px")
    patch_dim: PositiveInt = Field(default=14, description="side of a patch in px")
    hidden_size: PositiveInt = Field(default=1024, description="width")
    ffn_hidden_size: PositiveInt = Field(default=4096, description="width of the MLP")
    num_layers: PositiveInt = Field(default=24, description="layers")
    num_attention_heads: PositiveInt = Field(default=16, description="heads")
    vision_select_layer: int = Field(default=-2, description="the layer whose features are used; -1 is the last")
    vision_select_feature: Literal["patch", "cls_patch"] = Field(
        default="patch", description="patch: without the tower's class token"
    )
    class_token_length: Literal[0, 1] = Field(default=1, description="0 for towers without a class token (SigLIP)")

    @field_validator("from_pretrained")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None


class MmSettings(Section):
    """The parts of the multimodal model: language model, vision tower and projector."""

    llm: LlmSettings = LlmSettings()
    vision_encoder: VisionEncoderSettings = VisionEncoderSettings()
    pretrain_mm_mlp_adapter: str | None = Field(
        default=None, description="a trained projector: a model folder, a .nemo or a file of its tensors; null: new"
    )
    mm_mlp_adapter_type: Literal["linear", "mlp2x_gelu"] = Field(default="linear", description="the projector's kind")
    freeze_mm_mlp_adapter: bool = Field(default=False, description="leave the projector's weights as they are")
    use_im_start_end: bool = Field(default=False, description="keep the start and end tokens around the frames")

    @field_validator("mm_mlp_adapter_type", mode="before")
    @classmethod
    def _servable(cls, value: Any) -> Any:
        if value == "mlp_downsample":
            raise ValueError("vLLM's LLaVA has no mlp_downsample to serve: write linear or mlp2x_gelu")
        return value


class ScheduleSettings(Section):
    """The schedule of the learning rate: a linear warm-up, a cosine down, and a constant end."""

    name: Literal["CosineAnnealing", "OneCycle"] = "CosineAnnealing"
    warmup_steps: NonNegativeInt = Field(default=140, description="steps up to lr")
    constant_steps: NonNegativeInt = Field(default=0, description="steps at min_lr at the end")
    min_lr: NonNegativeFloat = Field(default=2e-5, description="the rate at the end")


class OptimSettings(Section):
    """The optimiser."""

    name: Literal["adamw", "fused_adam", "distributed_fused_adam"] = Field(
        default="fused_adam", description="all of them mean AdamW"
    )
    lr: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    sched: ScheduleSettings = ScheduleSettings()


class ShapesSettings(Section):
    """Synthetic clips of moving shapes (``neva/shapes/``), and the losses that only they have labels for."""

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


class ScenesSettings(Section):
    """Synthetic clips of scenes (``neva/scenery/``), and the steps that only they have labels for."""

    photographs: Path = Field(description="the folder of photographs that the camera goes over, as PNG")
    clips: PositiveInt = Field(default=16_000, description="training clips")
    held_out_clips: PositiveInt = Field(default=500, description="clips over other photographs, for scoring")
    shape_clips: PositiveInt = Field(
        default=12_000, description="training clips of shapes, which are not to be forgotten"
    )
    held_out_shape_clips: PositiveInt = Field(default=2_000, description="clips of shapes, for scoring")
    shapes_share: float = Field(default=0.2, ge=0, lt=1, description="the share of shape clips in a step")
    workers: PositiveInt = Field(default=2, description="processes that make the clips")
    movement_steps: NonNegativeInt = Field(default=600, description="steps of movement alone, at the start")
    readout_steps: NonNegativeInt = Field(default=1200, description="steps of the last layer alone, at the end")
    colours_steps: NonNegativeInt = Field(default=200, description="steps of it for the words of colours, after those")
    readout_clips: PositiveInt = Field(default=40_000, description="drawn clips, turned about, that those steps read")
    movement_loss_weight: NonNegativeFloat = Field(default=0.5, description="movement, while sentences are learned")


class ValidationSettings(Section):
    """Held-out conversations, whose loss is reported; nothing is learned from them."""

    data_path: Path | tuple[Path, ...] | None = Field(
        default=None, description="as data.data_path; null: no validation"
    )
    video_folder: Path | None = Field(default=None, description="the folder or tar of their videos; null: data's own")
    image_folder: Path | None = Field(default=None, description="the folder or tar of their images; null: data's own")

    @property
    def data_paths(self) -> tuple[Path, ...]:
        """The files, of which there may be none."""
        return _paths(self.data_path)


def _paths(named: Path | tuple[Path, ...] | None) -> tuple[Path, ...]:
    return named if isinstance(named, tuple) else () if named is None else (named,)


class DataSettings(MediaSettings):
    """The training data: conversations about videos or images, or clips of shapes."""

    data_path: Path | tuple[Path, ...] | None = Field(
        default=None, description="LLaVA's JSON: a list of conversations, or SteerLM's .jsonl; or several files"
    )
    concat_sampling_probabilities: tuple[NonNegativeFloat, ...] | None = Field(
        default=None, description="each file's share of the samples; null: all alike"
    )
    validation: ValidationSettings = ValidationSettings()
    video_folder: Path | None = Field(default=None, description="the folder or tar of the videos")
    image_folder: Path | None = Field(default=None, description="the folder or tar of the images")
    conv_template: str | None = Field(default=None, description="the conversation; null: mm_cfg.llm.model_type")
    decoder: Literal["av", "decord"] = Field(
        default="av", description="PyAV, or decord as in NeVA; images go through PyAV either way"
    )
    num_workers: NonNegativeInt = Field(default=2, description="processes that read clips ahead; 0: none")
    dataloader_type: Literal["cyclic", "single"] = Field(
        default="cyclic", description="cyclic: in a new order each time"
    )
    cache_features: bool = Field(
        default=False, description="keep what a frozen tower sees of each clip in exp_dir, computed once"
    )
    shapes: ShapesSettings | None = Field(default=None, description="instead of data_path: clips of moving shapes")
    scenes: ScenesSettings | None = Field(
        default=None, description="instead of data_path: clips of scenes, to finetune"
    )

    @field_validator("conv_template")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in TEMPLATES:
            raise ValueError(f"there is no conversation {value!r}; there are {', '.join(TEMPLATES)}")
        return value

    @model_validator(mode="after")
    def _a_share_for_each_file(self) -> Self:
        shares, files = self.concat_sampling_probabilities, self.data_paths
        if self.data_path == ():
            raise ValueError("data_path: the list names no file")
        if shares is not None and len(files) > 1 and (len(shares) != len(files) or not sum(shares)):
            raise ValueError(
                f"concat_sampling_probabilities: {len(files)} files need as many shares, not all of them 0"
            )
        return self

    @property
    def data_paths(self) -> tuple[Path, ...]:
        """The files of conversations, of which there may be none."""
        return _paths(self.data_path)

    @property
    def folder(self) -> Path | None:
        """The folder or tar that holds the media."""
        return self.video_folder if self.media_type == "video" else self.image_folder

    @property
    def held_out_folder(self) -> Path | None:
        """The folder or tar that holds the media of validation."""
        held_out = self.validation
        return (held_out.video_folder if self.media_type == "video" else held_out.image_folder) or self.folder


class ModelSettings(Section):
    """The model and how it is trained; the sizes at this level are a new language model's."""

    restore_from_path: str | None = Field(
        default=None, description="a whole Video NeVA to go on with: the first stage's model folder, or bundled"
    )
    micro_batch_size: PositiveInt = Field(default=1, description="clips at once on a device")
    global_batch_size: PositiveInt | None = Field(
        default=None, description="clips a step, over all devices; null: micro_batch_size on each"
    )
    activations_checkpoint_granularity: Literal["selective", "full"] | None = Field(
        default=None, description="either: compute the language model's activations again instead of keeping them"
    )
    do_layer_norm_weight_decay: bool = Field(
        default=False, description="with a language model that learns: weight decay for norms and biases too"
    )
    seed: NonNegativeInt = 1234
    encoder_seq_length: PositiveInt = Field(default=4096, description="longest prompt plus answer, in tokens")
    vocab_size: PositiveInt = Field(default=640, description="a multiple of 64")
    hidden_size: PositiveInt = 4096
    ffn_hidden_size: PositiveInt = 11_008
    num_layers: PositiveInt = 32
    num_attention_heads: PositiveInt = 32
    num_query_groups: PositiveInt | None = Field(
        default=None, description="key and value heads; null: as many as heads"
    )
    kv_channels: PositiveInt | None = Field(default=None, description="features of a head; null: hidden_size by heads")
    mm_cfg: MmSettings = MmSettings()
    peft: PeftSettings = PeftSettings()
    optim: OptimSettings = OptimSettings()
    data: DataSettings = DataSettings.model_validate({})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.vocab_size % 64:
            raise ValueError(f"vocab_size is a multiple of 64, not {self.vocab_size}: vLLM pads it otherwise")
        data, tower = self.data, self.mm_cfg.vision_encoder
        if data.data_path is not None and data.folder is None:
            raise ValueError(f"data.{data.media_type}_folder: this key is needed")
        self.peft.check_with(self.mm_cfg.llm.freeze, tower.freeze, self.optim.lr, self.optim.sched.min_lr)
        if data.cache_features and not tower.freeze:
            raise ValueError("data.cache_features is for a tower that is frozen (mm_cfg.vision_encoder.freeze)")
        if self.conv_template not in TEMPLATES:
            raise ValueError(f"mm_cfg.llm.model_type {self.conv_template!r} is no conversation: set data.conv_template")
        return self

    @property
    def conv_template(self) -> str:
        """The template that conversations are written in."""
        return self.data.conv_template or self.mm_cfg.llm.model_type


class TrainingSettings(Section):
    """A whole training file."""

    name: str = "video-neva"
    import_nemo: ImportSettings = ImportSettings()
    trainer: TrainerSettings = TrainerSettings()
    exp_manager: ExpManagerSettings = ExpManagerSettings()
    model: ModelSettings = ModelSettings()


STAGES: dict[Stage, dict[str, Any]] = {
    "pretrain": {},
    "finetune": {
        "model": {
            "mm_cfg": {"llm": {"freeze": False}},
            "optim": {"lr": 2e-5, "sched": {"warmup_steps": 200, "min_lr": 2e-7}},
        }
    },
}
