"""The settings of NeVA's evaluation: the keys and defaults of ``neva_inference.yaml`` (NeMo v2.0.0), and a few of ours.

Keys that NeVA itself never reads are ignored, and the log says so; keys for features that captiond does not have are
refused with the reason. Overrides are written as in NeVA's command lines: ``key.path=value``, or ``+key.path=value``
for keys that its own file does not have. Relative paths are relative to the working folder, as in NeVA.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.errors import ConfigurationError
from connectors.section import Section
from daemon.config.overrides import set_key
from daemon.config.yaml_file import read_yaml
from neva.settings_file import config_file, configuration_error

log = logging.getLogger(__name__)


class InferenceSettings(Section):
    """The generation of answers, and the media that they are about."""

    greedy: bool = Field(False, description="the likeliest token each time: temperature, top_k and top_p say nothing")
    top_k: NonNegativeInt = Field(0, description="0 is off")
    top_p: NonNegativeFloat = Field(0.9, description="at work between 0 and 1")
    temperature: NonNegativeFloat = Field(0.2, description="0 is greedy")
    add_BOS: bool = Field(False, description="ignored: the conversation template says what stands at the beginning")
    tokens_to_generate: PositiveInt = Field(256, description="at most so many tokens an answer")
    min_tokens_to_generate: NonNegativeInt = Field(0, description="at least so many")
    all_probs: bool = Field(False, description="the likeliest tokens at each step with their log-probabilities")
    compute_logprob: bool = Field(False, description="the log-probability of each token of the answer")
    repetition_penalty: float = Field(1.2, gt=0, description="as in NeVA, at work only with compute_logprob")
    end_strings: tuple[str, ...] = Field(("<extra_id_1>", "<extra_id_7>"), description="strings that end an answer")
    media_base_path: Path = Field(Path("/pwd/images"), description="the folder or tar that holds the media")
    insert_media_token: Literal["left", "right"] | None = Field(
        None, description="null: the prompts have it themselves"
    )
    media_type: Literal["image", "video"] = Field("image", description="which key of a record names its media")
    batch_size: PositiveInt = Field(1, description="ignored: the engine batches by itself")
    answer_key: Literal["pred_answer", "text"] | None = Field(
        None, description="null: as the generation of NeVA that the model is of; the first one's is text"
    )
    seed: int | None = Field(None, description="for sampling that can be repeated")

    @model_validator(mode="before")
    @classmethod
    def _first_names(cls, values: Any) -> Any:
        """Accept the names that keys had in NeVA's first release."""
        if not isinstance(values, dict):
            return values
        names = {
            "images_base_path": "media_base_path",
            "videos_base_path": "media_base_path",
            "insert_image_token": "insert_media_token",
        }
        return {names.get(key, key): value for key, value in values.items()}

    @field_validator("insert_media_token", mode="before")
    @classmethod
    def _null(cls, value: Any) -> Any:
        return None if value in ("null", "None", "") else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_tokens_to_generate > self.tokens_to_generate:
            raise ValueError(
                f"min_tokens_to_generate ({self.min_tokens_to_generate}) is above tokens_to_generate "
                f"({self.tokens_to_generate})"
            )
        return self


class TrainerSettings(Section):
    """The settings of NeMo's trainer: devices and precision."""

    devices: PositiveInt = Field(8, description="as many as tensor times pipeline ranks")
    num_nodes: PositiveInt = Field(1, description="1: an engine runs on one machine")
    accelerator: str = Field("gpu", description="ignored: the vLLM that is installed knows its devices")
    logger: Any = Field(False, description="ignored")
    precision: Literal["16", "16-mixed", "bf16", "bf16-mixed", "32", "32-true"] = Field("bf16", description="dtype")

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @property
    def dtype(self) -> str:
        """The precision under vLLM's name for it."""
        return {"16": "float16", "bf": "bfloat16", "32": "float32"}[self.precision[:2]]


class QuantizationSettings(Section):
    """NeVA's quantisation, so far as vLLM has it."""

    algorithm: Literal["awq", "fp8", "int8_sq", "int8"] | None = Field("awq", description="says nothing without enable")
    enable: bool = Field(False, description="serve the model quantised")
    num_samples: int | None = Field(None, description="ignored: nothing is calibrated at serving time")


class ImportSettings(Section):
    """The sources of the parts that a ``.nemo`` does not hold; see ``captiond import-nemo``."""

    vision_tower: str | None = Field(None, description="a folder or a Hugging Face name; the checkpoint's own if null")
    tokenizer: str | None = Field(None, description="a folder or a SentencePiece .model; the checkpoint's own if null")
    legacy_bgr: bool | None = Field(None, description="blue for red; null: for videos of NeVA's first generation")
    cache_dir: Path = Field(Path("~/.cache/captiond/imported"), description="imported models are kept here")


class EvaluateSettings(Section):
    """The whole of ``neva_inference.yaml``."""

    inference: InferenceSettings = Field(default_factory=lambda: InferenceSettings.model_validate({}))
    trainer: TrainerSettings = Field(default_factory=lambda: TrainerSettings.model_validate({}))
    quantization: QuantizationSettings = Field(default_factory=lambda: QuantizationSettings.model_validate({}))
    import_nemo: ImportSettings = Field(default_factory=lambda: ImportSettings.model_validate({}))
    data: dict[str, Any] = Field(default_factory=dict, description="wins over the checkpoint's own data section")
    engine: dict[str, Any] = Field(default_factory=dict, description="wins over what the keys here say of the engine")
    limits: dict[str, Any] = Field(default_factory=dict, description="as in the daemon's configuration")
    timeouts: dict[str, Any] = Field(default_factory=dict, description="as in the daemon's configuration")
    add_media_sep: bool = Field(False, description="put a space and a newline behind the inserted token")
    tensor_model_parallel_size: PositiveInt = Field(8, description="devices that share each layer")
    pipeline_model_parallel_size: PositiveInt = Field(1, description="devices that share the stack of layers")
    neva_model_file: str = Field("/pwd/nemo_experiments/nemo_llava.nemo", description="a .nemo, a folder, or bundled")
    base_model_file: str | None = Field(None, description="the language model of a checkpoint without one")
    decoder: Literal["av", "decord"] = Field("av", description="PyAV, or decord as in NeVA; they show the same frames")
    prompt_file: Path = Path("/pwd/nemo_experiments/input_prompts.jsonl")
    output_file: Path = Path("/pwd/nemo_experiments/results.jsonl")

    @model_validator(mode="after")
    def _devices(self) -> Self:
        ranks = self.tensor_model_parallel_size * self.pipeline_model_parallel_size
        devices = self.trainer.devices * self.trainer.num_nodes
        if devices != ranks:
            raise ValueError(
                f"trainer.devices x trainer.num_nodes = {devices} is not tensor_model_parallel_size x "
                f"pipeline_model_parallel_size = {ranks}"
            )
        if self.trainer.num_nodes > 1:
            raise ValueError("trainer.num_nodes: an engine runs on one machine; use engine.kind=openai to reach others")
        return self


# Top-level keys of NeVA's file that its evaluation never reads.
_IGNORED = {
    **dict.fromkeys(
        ("quality", "toxicity", "humor", "creativity", "violence", "helpfulness", "not_appropriate"),
        "NeVA's evaluation does not read it either",
    ),
    **dict.fromkeys(
        ("port", "share", "username", "password", "web_port"), "it is for a server that NeVA's evaluation does not have"
    ),
    "cluster_type": "there is no cluster to join",
    "pipeline_model_parallel_split_rank": "it is for models of an encoder and a decoder",
    "hydra": "it is for Hydra",
}
# Keys for features that an evaluation does not have, refused unless they are off, with the reason.
_REFUSED = {
    **dict.fromkeys(
        ("server", "web_server"), "NeVA's evaluation has no server; `captiond run` serves clips, vLLM serves requests"
    ),
    **dict.fromkeys(
        ("checkpoint_dir", "checkpoint_name", "hparams_file"),
        "a PyTorch Lightning checkpoint is not read: save it as a .nemo and name that as neva_model_file",
    ),
}


def read_evaluate_settings(
    config_path: Path | None, config_name: str | None, overrides: list[str]
) -> tuple[EvaluateSettings, list[str]]:
    """Return the settings, and lines for the log about the keys that have no effect here.

    ``config_path`` is a folder and ``config_name`` a file in it, with or without its suffix. Without them every key has
    the default of NeVA's file.

    Raises:
        ConfigurationError: a key is wrong; the error names it.
    """
    values: dict[str, Any] = {}
    if config_path is not None or config_name is not None:
        values = read_yaml(config_file(config_path or Path(), config_name or "neva_inference"))
    for override in overrides:
        if override.startswith("~"):
            raise ConfigurationError(f"{override!r}: keys are overridden, not deleted; write key=null.")
        set_key(values, override)
    ignored = list(_split_off(values))
    try:
        settings = EvaluateSettings.model_validate(values)
    except ValidationError as error:
        raise configuration_error(
            error, unknown_key="unknown key: neither NeVA's evaluation nor captiond's has it"
        ) from error
    return settings, [*ignored, *_without_effect(settings, values)]


def _split_off(values: dict[str, Any]) -> Iterator[str]:
    """Remove the top-level keys that have no effect, and refuse those for features that are missing."""
    for key in sorted(_IGNORED.keys() & values.keys()):
        del values[key]
        yield f"{key} is ignored: {_IGNORED[key]}."
    for key in sorted(_REFUSED.keys() & values.keys()):
        if values.pop(key) not in (None, False, ""):
            raise ConfigurationError(_REFUSED[key], path=key)


def _without_effect(settings: EvaluateSettings, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key that was given and has no effect."""
    inference, trainer = (given.get(part) or {} for part in ("inference", "trainer"))
    if "add_BOS" in inference:
        yield "inference.add_BOS is ignored, as in NeVA: the conversation template says what stands at the beginning."
    if "batch_size" in inference:
        yield "inference.batch_size is ignored: the engine batches by itself."
    if settings.inference.repetition_penalty != 1 and not settings.inference.compute_logprob:
        yield "inference.repetition_penalty is ignored, as in NeVA, unless inference.compute_logprob is on."
    if settings.inference.greedy:
        yield "inference.greedy is on: temperature, top_k, top_p and repetition_penalty are ignored, as in NeVA."
    for key in ("accelerator", "logger"):
        if key in trainer:
            yield f"trainer.{key} is ignored: vLLM knows its devices, and nothing is trained."
    if "quantization" in given and not settings.quantization.enable:
        yield "quantization.algorithm is ignored, as in NeVA, while quantization.enable is off."
