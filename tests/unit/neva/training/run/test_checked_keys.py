"""NeMo's own keys: those of its files are taken whole, and one that changes what is learned is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from neva.training.settings import Stage, TrainingSettings
from tests.unit.neva.training.test_config_file import read

# The keys of NeMo v2.0.0's neva_config.yaml that its video_neva_config.yaml does not have, and those of neva_finetune.
IMAGES = """
name: nemo_neva
restore_from_path: null
trainer: {max_epochs: -1, max_steps: 4650, val_check_interval: 100, check_val_every_n_epoch: null,
  limit_val_batches: 50, limit_test_batches: 500, accumulate_grad_batches: 1, benchmark: False, precision: bf16}
exp_manager:
  resume_from_checkpoint: ${model.resume_from_checkpoint}
  checkpoint_callback_params: {monitor: val_loss, save_top_k: 10, mode: min, always_save_nemo: False,
    save_nemo_on_train_end: True, filename: 'megatron_clip--{val_loss:.2f}-{step}-{consumed_samples}'}
  ema: {enable: False, decay: 0.9999, validate_original_weights: False, every_n_steps: 1, cpu_offload: False}
model:
  precision: ${trainer.precision}
  micro_batch_size: 16
  global_batch_size: 128
  context_parallel_size: 1
  virtual_pipeline_model_parallel_size: null
  encoder_seq_length: 4096
  max_position_embeddings: ${.encoder_seq_length}
  num_layers: 40
  hidden_size: 5120
  hidden_dropout: 0.0
  attention_dropout: 0.
  ffn_dropout: 0.0
  do_layer_norm_weight_decay: False
  fp8: False
  fp16_lm_cross_entropy: False
  resume_from_checkpoint: null
  data:
    packed_sequence: False
    data_path: [one.json, two.jsonl]
    concat_sampling_probabilities: [0.5, 0.5]
    global_batch_size: ${model.global_batch_size}
    micro_batch_size: ${model.micro_batch_size}
    is_multimodal: True
    media_type: image
    sep_image_conv_front: False
    image_token_len: 256
    image_folder: images
  energon:
    use_energon: False
    data: {__module__: megatron.energon, splits: {train: {datasets: [{weight: 1.0, path: null}]}}}
  nsys_profile: {enabled: False, ranks: [0]}
"""


def test_nemos_file_for_images_is_taken_whole(tmp_path: Path) -> None:
    settings, lines = read(tmp_path, IMAGES)

    data = settings.model.data
    assert data.data_paths == (tmp_path / "one.json", tmp_path / "two.jsonl")
    assert data.concat_sampling_probabilities == (0.5, 0.5)
    assert (settings.trainer.max_steps, settings.model.global_batch_size) == (4650, 128)
    told = " ".join(lines)
    for key in (
        *("model.energon", "model.num_layers", "model.hidden_size", "model.context_parallel_size", "exp_manager.ema"),
        *("model.data.is_multimodal", "model.data.global_batch_size", "exp_manager.checkpoint_callback_params"),
        *("trainer.max_epochs", "model.hidden_dropout", "model.data.image_token_len", "model.nsys_profile"),
    ):
        assert key in told
    assert "trainer.val_check_interval and trainer.limit_val_batches: no validation" in told


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("exp_manager.ema.enable=true", r"exp_manager\.ema\.enable: no moving average"),
        ("model.resume_from_checkpoint=a.ckpt", "name that folder there, or start from a model"),
        ("exp_manager.resume_from_checkpoint=a.ckpt", r"exp_manager\.resume_from_checkpoint: a run goes on from"),
        ("trainer.strategy=fsdp", r"trainer\.strategy: fsdp is not offered"),
        ("model.strategy=deepspeed", r"model\.strategy: trainer.strategy says how"),
        ("trainer.precision=16-mixed", r"trainer\.precision: float16 needs its loss scaled"),
        ("model.precision=16", r"model\.precision: trainer\.precision says bf16"),
        ("trainer.max_epochs=3", r"trainer\.max_epochs: the length of a run"),
        ("trainer.max_time=00:04:00:00", r"trainer\.max_time: a run ends after"),
        ("trainer.limit_train_batches=0.5", "learns from all of its data"),
        ("trainer.accumulate_grad_batches=4", "it follows from model.global_batch_size"),
        ("model.context_parallel_size=2", r"model\.context_parallel_size: the batch is shared"),
        ("model.hidden_dropout=0.1", r"model\.hidden_dropout: nothing is dropped out"),
        ("model.fp8=true", "float8"),
        ("model.energon.use_energon=true", r"model\.energon\.use_energon: name the conversations"),
        ("model.data.is_multimodal=false", "a record without media is text alone"),
        ("model.data.sep_image_conv_front=true", "shown where their token stands"),
        ("model.data.eod_mask_loss=true", "the token that ends an answer is learned"),
        ("model.data.global_batch_size=4", r"model\.data\.global_batch_size: model\.global_batch_size says 128"),
        ("exp_manager.checkpoint_callback_params.save_best_model=true", "the model of the last step is written"),
        ("exp_manager.create_early_stopping_callback=true", r"ends after trainer\.max_steps"),
        ("model.rampup_batch_size=[1,2,3]", "every step has"),
        ("model.data.concat_sampling_probabilities=[1.0]", "2 files need as many shares"),
        ("model.data.data_path=[]", "the list names no file"),
        ("trainer.limit_val_batches=1.5", r"trainer\.limit_val_batches"),
        ("model.seed=${model.seed}", r"\$\{model\.seed\} leads to itself"),
    ],
)
def test_what_changes_a_result_is_refused_with_what_to_do(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(tmp_path, IMAGES, override)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=-1",
        "model.energon.use_energon=false",
        "model.precision=bf16-mixed",
        "trainer.limit_train_batches=1.0",
        "model.fsdp=false",
    ],
)
def test_what_asks_for_nothing_else_is_taken(tmp_path: Path, override: str) -> None:
    _, lines = read(tmp_path, IMAGES, override)

    assert any(override.partition("=")[0] in line for line in lines)


def restored(folder: Path, text: str, *overrides: str, stage: Stage = "finetune") -> TrainingSettings:
    return read(folder, text, *overrides, stage=stage)[0]


def test_either_key_names_the_model_to_go_on_with(tmp_path: Path) -> None:
    above = restored(tmp_path, IMAGES, "restore_from_path=org/model")
    below = restored(tmp_path, IMAGES, "model.restore_from_path=org/other")

    assert (above.model.restore_from_path, below.model.restore_from_path) == ("org/model", "org/other")


def test_validation_is_its_own_conversations(tmp_path: Path) -> None:
    said: dict[str, Any] = {"model.data.validation.data_path": "held.json", "trainer.val_check_interval": 0.25}
    settings, lines = read(tmp_path, IMAGES, *(f"{key}={value}" for key, value in said.items()))

    data = settings.model.data
    assert data.validation.data_paths == (tmp_path / "held.json",)
    assert data.held_out_folder == data.folder == tmp_path / "images"
    assert settings.trainer.val_check_interval == 0.25
    assert not any("no validation" in line for line in lines)
    elsewhere, _ = read(tmp_path, IMAGES, "model.data.validation.image_folder=other")
    assert elsewhere.model.data.held_out_folder == tmp_path / "other"
    unsaid, _ = read(tmp_path, IMAGES, "trainer.limit_val_batches=null", "trainer.val_check_interval=null")
    assert (unsaid.trainer.limit_val_batches, unsaid.trainer.val_check_interval) == (50, 100)
