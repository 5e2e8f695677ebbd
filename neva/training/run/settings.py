"""The settings of a training run that say nothing of the model: its length, reports and folders, under NeMo's names."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator

from connectors.section import Section
from neva.training.devices.strategy import STRATEGIES, Strategy

Share = Annotated[float, Field(gt=0, le=1, strict=True)]


class TrainerSettings(Section):
    """The length of a run, its precision and its reports."""

    max_steps: NonNegativeInt = Field(default=10_000, description="optimiser steps; 0 writes the model as it is")
    precision: Literal["32", "bf16"] = Field(
        default="bf16", description="bf16: matrix products in bfloat16, what is trained in float32"
    )
    gradient_clip_val: NonNegativeFloat = Field(default=1.0, description="largest norm of the gradient; 0 is off")
    log_every_n_steps: PositiveInt = Field(default=10, description="steps from one line of the log to the next")
    num_threads: PositiveInt | None = Field(default=None, description="CPU threads; null: as torch chooses")
    val_check_interval: PositiveInt | Share = Field(
        default=100, description="steps from one validation to the next; a fraction is one of an epoch"
    )
    limit_val_batches: NonNegativeInt | Share = Field(
        default=50, description="batches of global_batch_size to validate with; a fraction is one of data.validation"
    )

    strategy: Strategy | None = Field(
        default=None,
        description="ddp: the whole model on each device; fsdp2: a share on each; null: as Accelerate says, else ddp",
    )
    devices: PositiveInt | None = Field(default=None, description="devices a node that `--dry-run` counts with")
    num_nodes: PositiveInt | None = Field(default=None, description="nodes that `--dry-run` counts with")

    @field_validator("strategy", mode="before")
    @classmethod
    def _offered(cls, value: Any) -> Any:
        if value in (None, "auto"):
            return None
        if str(value).startswith("ddp_find_unused_parameters_"):
            return "ddp"
        if value not in STRATEGIES:
            raise ValueError(f"{value} is not offered: {' and '.join(STRATEGIES)} are")
        return value

    @field_validator("devices", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        return None if value in ("auto", -1, "-1") else value  # Lightning's words for all that there are

    @field_validator("precision", mode="before")
    @classmethod
    def _spelling(cls, value: Any) -> Any:
        if str(value).startswith("16"):
            raise ValueError("float16 needs its loss scaled and is not offered: write bf16 or 32")
        return {"32-true": "32", "bf16-mixed": "bf16"}.get(str(value), str(value))


class ExpManagerSettings(Section):
    """The folders of a run, and its checkpoints."""

    exp_dir: Path = Field(default=Path("training"), description="checkpoints, cached frames, log and loss curve")
    resume_if_exists: bool = Field(default=True, description="go on from the last checkpoint there")
    every_n_train_steps: PositiveInt = Field(default=500, description="steps from one checkpoint to the next")
    export_dir: Path | None = Field(
        default=None, description="the finished model in Hugging Face's layout; null: exp_dir/model"
    )
    create_tensorboard_logger: bool = Field(default=False, description="write TensorBoard's files to exp_dir")
    summary_writer_kwargs: dict[str, Any] = Field(default={}, description="arguments of TensorBoard's writer")
    create_wandb_logger: bool = Field(default=False, description="log to Weights & Biases, where it is installed")
    wandb_logger_kwargs: dict[str, Any] = Field(default={}, description="its project, name, offline and others")

    @property
    def model_folder(self) -> Path:
        """The folder of the finished model."""
        return self.export_dir or self.exp_dir / "model"

    @property
    def adapter_folder(self) -> Path:
        """The folder of a trained adapter."""
        return self.exp_dir / "adapter"

    @property
    def base_folder(self) -> Path:
        """The folder of the model that a trained adapter belongs to."""
        return self.exp_dir / "base"


class ImportSettings(Section):
    """The import of a ``.nemo`` that ``model.restore_from_path`` names; see ``captiond import-nemo``."""

    tokenizer: str | None = Field(default=None, description="a folder or a SentencePiece .model; null: its own")
    cache_dir: Path = Field(default=Path("~/.cache/captiond/imported"), description="imported models are kept here")
