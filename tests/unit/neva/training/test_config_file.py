"""The settings of training: NeVA's files and defaults, and what is refused or left out by name."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from neva.training.config_file import read_training_settings
from neva.training.settings import Stage, TrainingSettings
from testing.repository import ROOT

NEVAS_OWN = """
name: nemo_video_neva
restore_from_path: null
trainer:
  devices: 8
  num_nodes: 1
  accelerator: gpu
  precision: bf16
  logger: False
  enable_checkpointing: False
  use_distributed_sampler: False
  max_epochs: -1
  max_steps: 10000
  log_every_n_steps: 10
  val_check_interval: 100
  check_val_every_n_epoch: null
  accumulate_grad_batches: 1
  gradient_clip_val: 1.0
exp_manager:
  explicit_log_dir: null
  exp_dir: null
  name: nemo_video_neva
  create_wandb_logger: True
  wandb_logger_kwargs: {project: null, name: null}
  resume_if_exists: True
  resume_from_checkpoint: ${model.resume_from_checkpoint}
  create_checkpoint_callback: True
  checkpoint_callback_params:
    model_parallel_size: ${multiply:${model.tensor_model_parallel_size}, ${model.pipeline_model_parallel_size}}
    every_n_train_steps: 250
  ema: {enable: False}
model:
  precision: ${trainer.precision}
  micro_batch_size: 1
  global_batch_size: 2
  tensor_model_parallel_size: 1
  pipeline_model_parallel_size: 1
  restore_from_path: null
  mm_cfg:
    llm: {from_pretrained: , freeze: True, model_type: llama_2}
    vision_encoder:
      {from_pretrained: "", from_hf: True, patch_dim: 14, crop_size: [336, 336], hidden_size: 1024,
       vision_select_layer: -2, class_token_length: 1, freeze: True}
    pretrain_mm_mlp_adapter: null
    mm_mlp_adapter_type: linear
    use_im_start_end: False
  mcore_gpt: True
  encoder_seq_length: 4096
  max_position_embeddings: ${.encoder_seq_length}
  activation: squared-relu
  megatron_amp_O2: True
  seed: 1234
  tokenizer: {library: sentencepiece, type: null}
  data:
    packed_sequence: False
    num_workers: 8
    dataloader_type: cyclic
    data_path: data.json
    lazy_preprocess: True
    is_multimodal: True
    media_type: video
    splice_single_frame: null
    num_frames: 8
    sep_token_between_frames: False
    conv_template: ${model.mm_cfg.llm.model_type}
    video_folder: videos.tar
    image_folder: null
    image_aspect_ratio: 'square'
  optim:
    name: fused_adam
    lr: 2e-3
    weight_decay: 0.
    betas: [0.9, 0.95]
    sched: {name: CosineAnnealing, warmup_steps: 140, constant_steps: 0, min_lr: 2e-5}
"""


def read(
    folder: Path, text: str = "", *overrides: str, stage: Stage = "pretrain"
) -> tuple[TrainingSettings, list[str]]:
    (folder / "config.yaml").write_text(text)
    return read_training_settings(folder / "config.yaml", list(overrides), stage)


def test_nevas_own_file_is_taken_and_what_it_says_of_megatron_is_named(tmp_path: Path) -> None:
    settings, lines = read(tmp_path, NEVAS_OWN)

    assert settings.model.data.data_path == tmp_path / "data.json"
    assert settings.model.data.video_folder == tmp_path / "videos.tar"
    assert settings.model.conv_template == "llama_2"
    assert settings.exp_manager.every_n_train_steps == 250
    assert settings.model.mm_cfg.vision_encoder.from_pretrained is None
    assert settings.trainer.devices == 8
    assert any("Accelerate" in line and "trainer.accelerator" in line for line in lines)
    assert any("Megatron" in line and "model.megatron_amp_O2" in line for line in lines)
    assert any("model.data.sep_token_between_frames" in line for line in lines)


def test_the_defaults_are_nevas_and_its_stages_differ(tmp_path: Path) -> None:
    first, _ = read(tmp_path)
    second, _ = read(tmp_path, stage="finetune")
    optim = first.model.optim

    assert (optim.lr, optim.betas, optim.weight_decay) == (2e-3, (0.9, 0.95), 0.0)
    assert (optim.sched.warmup_steps, optim.sched.min_lr) == (140, 2e-5)
    assert (first.trainer.precision, first.trainer.gradient_clip_val) == ("bf16", 1.0)
    assert [s.model.mm_cfg.llm.freeze for s in (first, second)] == [True, False]
    assert [s.model.mm_cfg.vision_encoder.freeze for s in (first, second)] == [True, True]
    assert (second.model.optim.lr, second.model.optim.sched.min_lr) == (2e-5, 2e-7)
    assert second.model.optim.sched.warmup_steps == 200


@pytest.mark.parametrize(
    ("name", "stage"), [("neva_pretrain", "pretrain"), ("neva_finetune", "finetune"), ("neva_peft", "finetune")]
)
def test_the_files_that_ship_hold_the_defaults(name: str, stage: Stage, tmp_path: Path) -> None:
    shipped, lines = read_training_settings(ROOT / "config" / f"{name}.yaml", [], stage)
    scheme = f"model.peft.peft_scheme={shipped.model.peft.peft_scheme or 'none'}"
    defaults, _ = read(tmp_path, "", scheme, stage=stage)

    assert lines == []
    assert shipped.model.peft == defaults.model.peft
    assert shipped.model.optim == defaults.model.optim
    assert [part.freeze for part in (shipped.model.mm_cfg.llm, shipped.model.mm_cfg.vision_encoder)] == [
        part.freeze for part in (defaults.model.mm_cfg.llm, defaults.model.mm_cfg.vision_encoder)
    ]


def test_the_file_of_the_model_of_shapes_is_read() -> None:
    settings, _ = read_training_settings(ROOT / "config" / "demo-model.yaml", [], "pretrain")

    assert settings.exp_manager.model_folder == ROOT / "build" / "shapes-model"
    assert settings.model.data.data_path is None
    assert not settings.model.mm_cfg.llm.freeze


def test_the_file_of_scenes_begins_with_the_model_of_shapes_and_ends_with_the_one_that_ships() -> None:
    settings, _ = read_training_settings(ROOT / "config" / "demo-scenes.yaml", [], "finetune")

    assert settings.exp_manager.model_folder == ROOT / "neva" / "bundled"
    assert Path(str(settings.model.restore_from_path)).name == "shapes-model"
    assert settings.model.data.scenes is not None
    assert settings.model.data.scenes.photographs == ROOT / "build" / "photographs"


def test_overrides_win_and_paths_that_are_there_are_the_files(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()

    settings, _ = read(
        tmp_path,
        "restore_from_path: elsewhere/model",
        "model.mm_cfg.llm.from_pretrained=llm",
        "+model.optim.lr=0.5",
        "exp_manager.exp_dir=run",
    )

    assert settings.model.mm_cfg.llm.from_pretrained == str(tmp_path / "llm")
    assert settings.model.restore_from_path == "elsewhere/model"  # a name, for there is no such folder
    assert settings.model.optim.lr == 0.5
    assert settings.exp_manager.model_folder == tmp_path / "run" / "model"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.optim.lrate=1", r"model\.optim\.lrate: unknown key"),
        ("trainer.precision=16", r"trainer\.precision: float16 needs its loss scaled"),
        ("model.tensor_model_parallel_size=4", r"model\.tensor_model_parallel_size: the batch is shared"),
        ("model.data.packed_sequence=True", "padded, not packed"),
        ("model.peft.peft_scheme=ptuning", r"model\.peft\.peft_scheme: ptuning is not trained, .* write lora"),
        ("model.mm_cfg.mm_mlp_adapter_type=mlp_downsample", "has no mlp_downsample to serve"),
        ("model.data.data_path=a.json", r"data\.video_folder: this key is needed"),
        ("model.data.conv_template=nonsense", "there is no conversation 'nonsense'"),
        ("model.mm_cfg.llm.model_type=vita", "set data.conv_template"),
        ("model.data.num_frames=-1", "every frame"),
        ("model.vocab_size=65", "a multiple of 64"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(tmp_path, "", override)


def test_features_are_kept_of_a_tower_that_is_frozen_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a tower that is frozen"):
        read(tmp_path, "", "model.data.cache_features=true", "model.mm_cfg.vision_encoder.freeze=false")
