"""Reading of training files: NeVA's own YAML is accepted as it is.

Its keys for Megatron, Lightning and NeMo are ignored, and the log names them with the reason.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.errors import ConfigurationError
from daemon.config.overrides import set_key
from daemon.config.yaml_file import read_yaml
from neva.settings_file import configuration_error
from neva.training.peft_settings import stage_defaults
from neva.training.settings import STAGES, Stage, TrainingSettings

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")  # OmegaConf's reference to another key of the same file

_ACCELERATE = "Accelerate's own configuration says it (`accelerate config`, `accelerate launch`)"
_LIGHTNING = "it is PyTorch Lightning's or NeMo's own"
_MEGATRON = "it is Megatron's own"
_ITS_OWN = "the language model's own configuration says it"

IGNORED: Mapping[str, Mapping[str, str]] = {
    "trainer": {
        "accelerator": _ACCELERATE,
        **dict.fromkeys(
            (
                *("logger", "enable_checkpointing", "use_distributed_sampler", "replace_sampler_ddp", "max_epochs"),
                *("val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "limit_test_batches"),
                *("benchmark", "enable_model_summary", "max_time", "num_sanity_val_steps"),
            ),
            _LIGHTNING,
        ),
        "accumulate_grad_batches": "it follows from model.global_batch_size",
    },
    "exp_manager": dict.fromkeys(
        (
            *("name", "create_wandb_logger", "wandb_logger_kwargs", "resume_ignore_no_checkpoint", "ema"),
            *("resume_from_checkpoint", "create_checkpoint_callback", "create_tensorboard_logger", "explicit_log_dir"),
            "checkpoint_callback_params",
        ),
        _LIGHTNING,
    ),
    "model": {
        **dict.fromkeys(
            (
                *("mcore_gpt", "init_method_std", "use_scaled_init_method", "use_flash_attention", "sequence_parallel"),
                *("activations_checkpoint_method", "transformer_engine", "fp8"),
                *("activations_checkpoint_num_layers", "num_micro_batches_with_partial_activation_checkpoints"),
                *("activations_checkpoint_layers_per_pipeline", "native_amp_init_scale", "native_amp_growth_interval"),
                *("hysteresis", "fp32_residual_connection", "fp16_lm_cross_entropy", "masked_softmax_fusion"),
                *("bias_dropout_add_fusion", "use_cpu_initialization", "onnx_safe", "gradient_accumulation_fusion"),
                *("bias_activation_fusion", "megatron_legacy", "fp8_e4m3", "fp8_hybrid", "fp8_margin", "fp8_interval"),
                *("fp8_amax_history_len", "fp8_amax_compute_algo", "use_emha", "megatron_amp_O2", "overlap_p2p_comm"),
                *("async_grad_allreduce", "grad_allreduce_chunk_size_mb", "grad_div_ar_fusion", "batch_p2p_comm"),
                *("apex_transformer_log_level", "gradient_as_bucket_view", "nsys_profile", "context_parallel_size"),
                *("virtual_pipeline_model_parallel_size", "pre_process", "post_process", "persist_layer_norm"),
                *("tp_comm_overlap", "ub_tp_comm_overlap", "dist_ckpt_format", "gc_interval", "openai_gelu"),
            ),
            _MEGATRON,
        ),
        **dict.fromkeys(
            (
                *("max_position_embeddings", "position_embedding_type", "posistion_embedding_type", "hidden_dropout"),
                *("attention_dropout", "ffn_dropout", "kv_channels", "apply_query_key_layer_scaling", "normalization"),
                *("layernorm_epsilon", "do_layer_norm_weight_decay", "bias", "activation", "headscale", "rotary_base"),
                *("transformer_block_type", "normalize_attention_scores", "rotary_percentage", "attention_type"),
                *("share_embeddings_and_output_weights", "seq_len_interpolation_factor", "tokenizer"),
                *("make_vocab_size_divisible_by", "encoder_type"),
            ),
            _ITS_OWN,
        ),
        "precision": "trainer.precision says it",
        "resume_from_checkpoint": "the last checkpoint in exp_manager.exp_dir is gone on from",
    },
    "model.mm_cfg.vision_encoder": {"model_type": "the tower's own configuration says it"},
    "model.peft": dict.fromkeys(
        ("adapter_tuning", "ia3_tuning", "p_tuning", "selective_tuning", "mlp_head_tuning"),
        "it belongs to another peft_scheme",
    ),
    "model.peft.lora_tuning": {"a2a_experimental": _MEGATRON},
    "model.data": {
        "lazy_preprocess": "conversations are always encoded when they are read",
        "is_multimodal": "records without media are text",
        "sep_token_between_frames": "no generation of NeVA reads it",
        "sep_image_conv_front": "no template has it",
        "image_token_len": "it follows from crop size and patch size",
        "additional_special_tokens": _ITS_OWN,
    },
}
# Keys for features that training does not have, refused unless they are off, with the reason and what to write.
_REFUSED = {
    "model.tensor_model_parallel_size": "the batch is shared among devices, not the layers: write 1",
    "model.pipeline_model_parallel_size": "the batch is shared among devices, not the layers: write 1",
    "model.data.packed_sequence": "samples are padded, not packed: write false",
    "model.mm_cfg.use_lita": "LITA's time tokens are not trained: plain Video NeVA is",
}


def read_training_settings(
    path: Path | None, overrides: Sequence[str], stage: Stage
) -> tuple[TrainingSettings, list[str]]:
    """Return a stage's settings, and lines for the log about the keys that have no effect here.

    ``key.path=value`` overrides win over the file. Relative paths are relative to the file, or to the working folder
    where there is none.

    Raises:
        ConfigurationError: a key is wrong; the error names it.
    """
    values = read_yaml(path) if path is not None else {}
    for override in overrides:
        set_key(values, override)
    if values.get("restore_from_path"):  # NeVA's files have it at both places
        values.setdefault("model", {}).setdefault("restore_from_path", values["restore_from_path"])
    values.pop("restore_from_path", None)
    _adopt(values)
    _refuse(values)
    lines = list(_without_ignored(values))
    values = _resolved(_over(stage_defaults(STAGES[stage], values), values), values)
    try:
        settings = TrainingSettings.model_validate(values)
    except ValidationError as error:
        raise configuration_error(error) from error
    return _placed(settings, path.resolve().parent if path is not None else Path.cwd()), lines


def _adopt(values: Mapping[str, Any]) -> None:
    """Take the run's folder and the interval of its checkpoints from NeMo's own keys for them."""
    manager = values.get("exp_manager") or {}
    if manager.get("explicit_log_dir"):
        manager.setdefault("exp_dir", manager["explicit_log_dir"])
    if every := (manager.get("checkpoint_callback_params") or {}).get("every_n_train_steps"):
        manager.setdefault("every_n_train_steps", every)
    if manager and manager.get("exp_dir") is None:
        manager.pop("exp_dir", None)


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _refuse(values: Mapping[str, Any]) -> None:
    """Refuse keys for features that training does not have; remove those that are off or ask for one rank."""
    for path, reason in _REFUSED.items():
        parent, _, key = path.rpartition(".")
        section = _at(values, parent)
        asked = section.pop(key, None) if isinstance(section, dict) else None
        is_one = asked == 1 and asked is not True
        if asked and not is_one:
            raise ConfigurationError(reason, path=path)


def _without_ignored(values: Mapping[str, Any]) -> Iterator[str]:
    """Remove the keys that have no effect, and yield a line for each reason."""
    for path, reasons in IGNORED.items():
        section = _at(values, path)
        if not isinstance(section, dict):
            continue
        found: dict[str, list[str]] = {}
        for key in [key for key in section if key in reasons]:
            del section[key]
            found.setdefault(reasons[key], []).append(f"{path}.{key}")
        for reason, keys in found.items():
            yield f"Ignored, because {reason}: {', '.join(keys)}."


def _over(below: Any, above: Any) -> Any:
    """Return a mapping in which the keys of ``above`` win over those of ``below``."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return below if above is None and isinstance(below, Mapping) else above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def _resolved(value: Any, whole: Mapping[str, Any]) -> Any:
    """Return a value with references to other keys, such as ``${model.seed}``, replaced by the values of those keys."""
    if isinstance(value, Mapping):
        return {key: _resolved(below, whole) for key, below in value.items()}
    if isinstance(value, str) and (found := _REFERENCE.fullmatch(value)) is not None:
        return _at(whole, found[1])
    return value


def _placed(settings: TrainingSettings, folder: Path) -> TrainingSettings:
    """Return the settings with relative paths made absolute."""

    def place(section: BaseModel) -> BaseModel:
        changed: dict[str, Any] = {}
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                changed[name] = place(value)
            elif isinstance(value, Path):
                changed[name] = (folder / value.expanduser()).resolve()
            elif name in ("from_pretrained", "restore_from_path", "pretrain_mm_mlp_adapter") and value:
                beside = folder / Path(value).expanduser()  # a name of the model hub where there is no such file
                changed[name] = str(beside.resolve()) if beside.exists() else value
        return section.model_copy(update=changed)

    placed = place(settings)
    assert isinstance(placed, TrainingSettings)  # noqa: S101 - a copy is of the same kind
    return placed
