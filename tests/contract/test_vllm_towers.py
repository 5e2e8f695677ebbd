"""Vision towers whose heads the devices can't divide: vLLM's own class says whether it keeps a whole one on each."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.vllm import library
from daemon.engines.vllm.args import engine_args
from daemon.engines.vllm.library import configuration
from daemon.engines.vllm.load import load_model
from testing import tiny_models
from testing.tiny_models import parts
from tests.contract.vllm_engines import MARKS, settings

pytestmark = MARKS

TOWER = parts.TOWER | {"hidden_size": 96, "num_attention_heads": 3}
TEXT = parts.TEXT | {"vocab_size": 300, "model_type": "qwen2"}
CLIP = TOWER | {"model_type": "clip_vision_model"}
INTERN_VIT = TOWER | {"norm_type": "layer_norm", "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True}
CHAT_CONFIG = """
from transformers import PretrainedConfig, Qwen2Config


class VisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    has_no_defaults_at_init = True

    def __init__(self, vision_config, llm_config, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = VisionConfig(**vision_config)
        self.llm_config = self.text_config = Qwen2Config(**llm_config)
"""
FAMILIES: dict[str, dict[str, Any]] = {
    "LlavaForConditionalGeneration": {
        "model_type": "llava",
        "text_config": TEXT | {"model_type": "llama"},
        "vision_config": CLIP,
    },
    "Qwen2_5_VLForConditionalGeneration": {
        "model_type": "qwen2_5_vl",
        "text_config": TEXT
        | {"model_type": "qwen2_5_vl_text", "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}},
        "vision_config": parts.QWEN_VISION | {"model_type": "qwen2_5_vl", "hidden_size": 96, "num_heads": 3},
    },
    "InternVLForConditionalGeneration": {
        "model_type": "internvl",
        "text_config": TEXT,
        "vision_config": INTERN_VIT | {"model_type": "internvl_vision", "image_size": [56, 56], "patch_size": [14, 14]},
    },
    "InternVLChatModel": {
        "model_type": "internvl_chat",
        "auto_map": {"AutoConfig": "configuration_chat.InternVLChatConfig"},
        "llm_config": TEXT,
        "vision_config": INTERN_VIT | {"initializer_factor": 1.0, "qk_normalization": False},
        "force_image_size": 56,
        "select_layer": -1,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
    },
}


def written(folder: Path, family: str) -> Path:
    """Write a model's configuration and tokenizer; no weights are needed to build its tower."""
    (folder / "config.json").write_text(json.dumps({"architectures": [family], **FAMILIES[family]}))
    (folder / "configuration_chat.py").write_text(CHAT_CONFIG)
    parts.byte_tokenizer(["<image>", "<video>"], parts.IMAGE_TEMPLATE).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "fits"),
    [
        ("LlavaForConditionalGeneration", False),  # CLIP is split, and asserts that it can be
        ("Qwen2_5_VLForConditionalGeneration", False),
        ("InternVLChatModel", True),  # InternViT keeps its attention whole then
        ("InternVLForConditionalGeneration", True),  # attention is never split
    ],
)
def test_the_class_says_whether_two_devices_can_hold_a_tower_of_three_heads(
    tmp_path: Path, family: str, fits: bool
) -> None:
    one = settings(written(tmp_path, family), tensor_parallel_size=2, args={"trust_remote_code": True})
    arguments = engine_args(one, str(tmp_path), dtype="float32")
    configuration._build_tower(arguments, 1)  # else nothing could be said

    assert library.tower_fits(arguments, 2) is fits


def test_a_model_whose_tower_cannot_be_shared_is_refused_when_it_is_read(tmp_path: Path) -> None:
    folder = tiny_models.build("llava", tmp_path)
    tiny_models.edit_config(folder, vision_config=CLIP)
    whole = {"mm-encoder-tp-mode": "data"}  # of which vLLM's LLaVA makes nothing

    for args in ({}, whole):
        with pytest.raises(ConfigurationError, match=r"tensor_parallel_size: the vision tower has 3 attention heads"):
            load_model(settings(folder, tensor_parallel_size=2, args=args), 8)


def test_a_tower_that_each_device_holds_whole_is_not_refused(tmp_path: Path) -> None:
    folder = tiny_models.build("qwen2_5_vl", tmp_path)
    vision = FAMILIES["Qwen2_5_VLForConditionalGeneration"]["vision_config"]
    shape = {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    tiny_models.edit_config(folder, vision_config=vision | shape)

    load_model(settings(folder, tensor_parallel_size=2, args={"mm-encoder-tp-mode": "data"}), 8)
    with pytest.raises(ConfigurationError, match=r"tensor_parallel_size: the vision tower has 3 attention heads"):
        load_model(settings(folder, tensor_parallel_size=2), 8)
