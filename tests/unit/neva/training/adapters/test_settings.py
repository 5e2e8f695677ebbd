"""The settings of adapters: NeVA's own file is taken, and what would teach something else is refused by name."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from neva.training.adapters.settings import LoraSettings, PeftSettings
from neva.training.config_file import read_training_settings
from neva.training.settings import TrainingSettings

NEVAS_OWN = """
model:
  mm_cfg: {llm: {from_pretrained: null, freeze: True, model_type: nvgpt}, vision_encoder: {freeze: True}}
  peft:
    peft_scheme: "lora"
    restore_from_path: null
    lora_tuning:
      adapter_dim: 32
      adapter_dropout: 0.0
      column_init_method: 'xavier'
      row_init_method: 'zero'
      layer_selection:  null
      weight_tying: False
      position_embedding_strategy: null
    ia3_tuning: {layer_selection: null}
  optim: {name: fused_adam, lr: 2e-4, weight_decay: 0., sched: {warmup_steps: 200, min_lr: 2e-7}}
"""


def read(folder: Path, text: str = "", *overrides: str) -> tuple[TrainingSettings, list[str]]:
    (folder / "config.yaml").write_text(text)
    return read_training_settings(folder / "config.yaml", list(overrides), "finetune")


def test_nevas_own_file_is_taken_and_says_what_is_the_default(tmp_path: Path) -> None:
    theirs, lines = read(tmp_path, NEVAS_OWN)
    ours, _ = read(tmp_path, "", "model.peft.peft_scheme=lora")

    assert theirs.model.peft == ours.model.peft
    assert theirs.model.optim == ours.model.optim
    assert ours.model.mm_cfg.llm.freeze
    assert lines == ["Ignored, because it belongs to another peft_scheme: model.peft.ia3_tuning."]
    lora = theirs.model.peft.lora
    assert lora is not None
    assert (lora.adapter_dim, lora.scale, lora.modules) == (32, 1.0, ("q_proj", "k_proj", "v_proj"))


@pytest.mark.parametrize("off", ["null", "none", ""])
def test_without_a_scheme_parts_are_trained_whole(off: str, tmp_path: Path) -> None:
    settings, _ = read(tmp_path, f"model: {{peft: {{peft_scheme: {off}}}}}")

    assert settings.model.peft.lora is None
    assert not settings.model.mm_cfg.llm.freeze


@pytest.mark.parametrize(
    ("named", "modules"),
    [
        (("attention",), ("q_proj", "k_proj", "v_proj", "o_proj")),
        (("mlp",), ("gate_proj", "up_proj", "down_proj")),
        (("mlp_fc2", "attention_dense"), ("o_proj", "down_proj")),
        (("all", "mlp_fc1"), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    ],
)
def test_nemos_names_of_parts_are_hugging_faces_modules(named: tuple[str, ...], modules: tuple[str, ...]) -> None:
    assert LoraSettings(target_modules=named).modules == modules


@pytest.mark.parametrize("scheme", ["adapter", "ia3", "ptuning", "mlp_head", "qlora", "selective", "sdlora"])
def test_other_schemes_are_refused_by_name(scheme: str) -> None:
    with pytest.raises(ValueError, match=f"{scheme} is not trained, for .*: write lora, or null"):
        PeftSettings.model_validate({"peft_scheme": scheme})


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.mm_cfg.llm.freeze=false", r"mm_cfg\.llm\.freeze: write true"),
        ("model.mm_cfg.vision_encoder.freeze=false", r"mm_cfg\.vision_encoder\.freeze: write true"),
        ("model.optim.sched.min_lr=1e-4", r"min_lr: the projector begins at 0\.1 x lr"),
        ("model.peft.lora_tuning.adapter_dropout=0.1", "write dropout_position: pre"),
        ("model.peft.lora_tuning.target_modules=[q_proj]", "'q_proj' is no part of a layer; there are attention_qkv"),
        ("model.peft.lora_tuning.target_modules=[]", "an adapter of no modules"),
        ("model.peft.lora_tuning.column_init_method=zero", "zeros on both sides"),
        ("model.peft.lora_tuning.weight_tying=true", r"lora_tuning\.weight_tying"),
        ("model.peft.lora_tuning.position_embedding_strategy=add", "position_embedding_strategy"),
        ("model.peft.lora_tuning.layer_selection=[0]", "layer_selection"),
        ("model.peft.lora_tuning.rank=8", r"lora_tuning\.rank: unknown key"),
    ],
)
def test_what_would_teach_something_else_is_refused(override: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(tmp_path, "", "model.peft.peft_scheme=lora", override)
