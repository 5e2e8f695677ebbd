"""NeMo's keys that change nothing of what is learned here, with the reason that the log gives."""

from collections.abc import Mapping

_ACCELERATE = "Accelerate's own configuration says it (`accelerate config`, `accelerate launch`)"
_LIGHTNING = "it is PyTorch Lightning's or NeMo's own"
_MEGATRON = "it is Megatron's own"
_ITS_OWN = "the language model's own configuration says it"
_LAST = "the last checkpoint is kept, and the model of the last step is written"

IGNORED: Mapping[str, Mapping[str, str]] = {
    "trainer": {
        "accelerator": _ACCELERATE,
        **dict.fromkeys(
            (
                *("logger", "enable_checkpointing", "use_distributed_sampler", "replace_sampler_ddp"),
                *("check_val_every_n_epoch", "limit_test_batches", "num_sanity_val_steps"),
                *("benchmark", "enable_model_summary", "enable_progress_bar"),
            ),
            _LIGHTNING,
        ),
    },
    "exp_manager": {
        **dict.fromkeys(
            (
                *("name", "version", "use_datetime_version", "resume_ignore_no_checkpoint", "explicit_log_dir"),
                *("create_checkpoint_callback", "log_step_timing", "step_timing_kwargs", "seconds_to_sleep"),
                *("log_local_rank_0_only", "log_global_rank_0_only", "files_to_copy", "create_dllogger_logger"),
                *("create_mlflow_logger", "mlflow_logger_kwargs", "create_clearml_logger", "clearml_logger_kwargs"),
                *("early_stopping_callback_params", "dllogger_logger_kwargs"),
            ),
            _LIGHTNING,
        ),
        "ema": "there is no moving average of the weights",
        "checkpoint_callback_params": _LAST,
    },
    "model": {
        **dict.fromkeys(
            (
                *("mcore_gpt", "init_method_std", "use_scaled_init_method", "use_flash_attention", "sequence_parallel"),
                *("activations_checkpoint_method", "transformer_engine", "grad_sync_dtype", "apply_rope_fusion"),
                *("activations_checkpoint_num_layers", "num_micro_batches_with_partial_activation_checkpoints"),
                *("activations_checkpoint_layers_per_pipeline", "native_amp_init_scale", "native_amp_growth_interval"),
                *("hysteresis", "masked_softmax_fusion", "cross_entropy_loss_fusion", "fsdp_sharding_strategy"),
                *("bias_dropout_add_fusion", "use_cpu_initialization", "onnx_safe", "gradient_accumulation_fusion"),
                *("bias_activation_fusion", "megatron_legacy", "fp8_e4m3", "fp8_hybrid", "fp8_margin", "fp8_interval"),
                *("fp8_amax_history_len", "fp8_amax_compute_algo", "use_emha", "megatron_amp_O2", "overlap_p2p_comm"),
                *("async_grad_allreduce", "grad_allreduce_chunk_size_mb", "grad_div_ar_fusion", "batch_p2p_comm"),
                *("apex_transformer_log_level", "gradient_as_bucket_view", "nsys_profile", "fp8_params"),
                *("pre_process", "post_process", "persist_layer_norm", "ub_tp_comm_overlap_cfg"),
                *("tp_comm_overlap", "ub_tp_comm_overlap", "dist_ckpt_format", "gc_interval", "openai_gelu"),
            ),
            _MEGATRON,
        ),
        **dict.fromkeys(
            (
                *("max_position_embeddings", "position_embedding_type", "posistion_embedding_type"),
                *("apply_query_key_layer_scaling", "normalization", "scale_positional_embedding"),
                *("layernorm_epsilon", "bias", "activation", "headscale", "rotary_base"),
                *("transformer_block_type", "normalize_attention_scores", "rotary_percentage", "attention_type"),
                *("share_embeddings_and_output_weights", "seq_len_interpolation_factor", "tokenizer"),
                *("make_vocab_size_divisible_by", "encoder_type"),
            ),
            _ITS_OWN,
        ),
        "precision": "trainer.precision says it",
        "energon": "conversations come from model.data.data_path",
    },
    "model.peft": dict.fromkeys(
        ("adapter_tuning", "ia3_tuning", "p_tuning", "selective_tuning", "mlp_head_tuning"),
        "it belongs to another peft_scheme",
    ),
    "model.peft.lora_tuning": {"a2a_experimental": _MEGATRON},
    "model.optim": dict.fromkeys(
        ("bucket_cap_mb", "overlap_grad_sync", "overlap_param_sync", "contiguous_grad_buffer"), _MEGATRON
    ),
    "model.mm_cfg": {"lita": "LITA is off"},
    "model.mm_cfg.vision_encoder": {"model_type": "the tower's own configuration says it"},
    "model.data": {
        "lazy_preprocess": "conversations are always encoded when they are read",
        "sep_token_between_frames": "no generation of NeVA reads it",
        "image_token_len": "it follows from crop size and patch size",
        "additional_special_tokens": _ITS_OWN,
        "validation_drop_last": "every held-out sample counts",
        **dict.fromkeys(("global_batch_size", "micro_batch_size"), "the model's own keys of that name say it"),
    },
}

# The sizes of a new language model, which NeMo's files repeat for the one that is loaded.
SIZES = (
    *("vocab_size", "hidden_size", "ffn_hidden_size", "num_layers", "num_attention_heads", "num_query_groups"),
    "kv_channels",
)
SIZES_REASON = _ITS_OWN
