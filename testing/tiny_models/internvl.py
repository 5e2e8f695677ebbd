"""A tiny InternVLChatModel, whose `<video>` is no token of its own, and its twin in transformers' naming."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testing.tiny_models.parts import TEXT, TOWER, byte_tokenizer

TWIN = "transformers"  # the folder beside its files that holds the same weights as transformers names them
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOKENS = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|video_pad|>"]

# The family's configuration is code that comes with its checkpoints.
_CONFIGURATION = '''"""The configuration of a tiny InternVLChatModel."""

from transformers import PretrainedConfig, Qwen2Config


class InternVisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    is_composition = True

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = InternVisionConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
        self.text_config = self.llm_config
'''
_RENAMED = {
    "model.vision_tower.": "vision_model.",
    "model.multi_modal_projector.layer_norm.": "mlp1.0.",
    "model.multi_modal_projector.linear_1.": "mlp1.1.",
    "model.multi_modal_projector.linear_2.": "mlp1.3.",
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "embeddings.cls_token": "embeddings.class_embedding",
    "embeddings.patch_embeddings.projection": "embeddings.patch_embedding",
    "embeddings.position_embeddings": "embeddings.position_embedding",
    "encoder.layer.": "encoder.layers.",
    "attention.projection_layer": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "lambda_1": "ls1",
    "lambda_2": "ls2",
}


def build_internvl_chat(folder: Path) -> Path:
    """Write an InternVL: InternViT of 56 px and patch 14, shuffled to 2 x 2 tokens a frame, Qwen2."""
    import torch
    from safetensors.torch import save_file
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokenizer = byte_tokenizer(_TOKENS, CHAT_TEMPLATE)
    text = TEXT | {"vocab_size": len(tokenizer), "model_type": "qwen2", "tie_word_embeddings": False}
    twin_config = InternVLConfig(
        text_config=text,
        vision_config=TOWER | {"attention_bias": True},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    twin = InternVLForConditionalGeneration(twin_config).float().eval()
    _randomise(twin)
    twin.generation_config.pad_token_id = 258
    twin.save_pretrained(folder / TWIN)
    save_file(_chat_weights(twin.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    (folder / "configuration_internvl_chat.py").write_text(_CONFIGURATION)
    (folder / "config.json").write_text(json.dumps(_chat_config(text), indent=1))
    return folder


def _randomise(model: Any) -> None:
    """Give values to what starts as zeros: the tokens of places and of the whole frame."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("cls_token", "position_embeddings")):
                parameter.normal_(std=0.02)


def _chat_config(text: dict[str, Any]) -> dict[str, Any]:
    vision = {
        **{"num_channels": 3, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm"},
        **{"layer_norm_eps": 1e-6, "hidden_act": "gelu", "initializer_factor": 0.1, "dropout": 0.0},
    }
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "vision_config": TOWER | vision,
        "llm_config": text | {"architectures": ["Qwen2ForCausalLM"]},
        "force_image_size": 56,
        "downsample_ratio": 0.5,
        "select_layer": -1,
        "ps_version": "v2",
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 4,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "torch_dtype": "float32",
    }


def _chat_weights(weights: dict[str, Any]) -> dict[str, Any]:
    """Return transformers' weights under the names of the checkpoints, with one tensor for query, key and value."""
    import torch

    renamed = dict[str, Any]()
    for given, tensor in weights.items():
        name = given
        if "vision_tower" in given and ".q_proj." in given:
            name = given.replace("attention.q_proj", "attn.qkv")
            tensor = torch.cat([weights[given.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
        elif "vision_tower" in given and (".k_proj." in given or ".v_proj." in given):
            continue
        for old, new in _RENAMED.items():
            name = name.replace(old, new)
        renamed[name] = tensor.clone().contiguous()
    return renamed


BUILDERS: dict[str, Callable[[Path], Path]] = {"internvl_chat": build_internvl_chat}
