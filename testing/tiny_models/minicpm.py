"""Tiny models of the MiniCPM-V line: up to 4.5, whose checkpoints carry their own code."""

import json
import shutil
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer
from testing.tiny_models.parts import TEXT, TOWER

CODE = Path(__file__).with_name("code")
# as Qwen3's, which takes text alone: vLLM and captiond write the placeholder into it
TEXT_TEMPLATE = (
    "{% for message in messages %}{% if message.content is string %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _minicpmv_tensors(config: dict[str, Any]) -> dict[str, Any]:
    """Return random weights under the names of a checkpoint: a language model, a SigLIP tower and a resampler."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    text = {key: value for key, value in config.items() if key != "vision_config"}
    language = Qwen3ForCausalLM(Qwen3Config(**text)).float()
    tower = SiglipVisionModel(SiglipVisionConfig(**config["vision_config"])).float()
    found = {f"llm.{name}": tensor for name, tensor in language.state_dict().items()}
    for name, tensor in tower.state_dict().items():
        found[f"vpm.{name.removeprefix('vision_model.')}"] = tensor
    width, seen, queries = config["hidden_size"], config["vision_config"]["hidden_size"], config["query_num"]
    attention = torch.nn.MultiheadAttention(width, width // 128)
    found |= {f"resampler.attn.{name}": tensor for name, tensor in attention.state_dict().items()}
    for norm in ("ln_q", "ln_kv", "ln_post"):
        found |= {f"resampler.{norm}.weight": torch.ones(width), f"resampler.{norm}.bias": torch.zeros(width)}
    found |= {"resampler.query": torch.randn(queries, width), "resampler.proj": torch.randn(width, width) / width**0.5}
    return found | {"resampler.kv_proj.weight": torch.randn(width, seen) / seen**0.5}


def build_minicpmv_4_5(folder: Path) -> Path:
    """Write a MiniCPM-V 4.5: SigLIP tower of 56 px and patch 14, 4 queries a frame; its folder brings its processor."""
    from safetensors.torch import save_file

    named = {"unk_token": "<unk>"}
    marks = [f"<{slash}{name}>" for name in ("image", "slice", "image_id") for slash in ("", "/")]
    tokenizer = named_tokenizer({}, ["<unk>", "<|im_start|>", "<|im_end|>", *marks], TEXT_TEMPLATE)
    tokenizer.unk_token = named["unk_token"]
    tokenizer.add_tokens([")\n"])  # as the vocabularies of real models have it: the end of a placeholder merges
    code = {"AutoConfig": "minicpmv.MiniCPMVConfig", "AutoProcessor": "minicpmv.MiniCPMVProcessor"}
    config: dict[str, Any] = TEXT | {
        "architectures": ["MiniCPMV"],
        "model_type": "minicpmv",
        "version": "4.5",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "tie_word_embeddings": False,
        "query_num": 4,
        "image_size": 56,
        "drop_vision_last_layer": False,
        "vision_config": TOWER | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "dtype": "float32",
    }
    images = {"max_slice_nums": 4, "scale_resolution": 56, "patch_size": 14, "image_feature_size": 4}
    kinds = {"image_processor_type": "MiniCPMVImageProcessor", "processor_class": "MiniCPMVProcessor"}
    auto = {"AutoImageProcessor": "minicpmv.MiniCPMVImageProcessor", "AutoProcessor": "minicpmv.MiniCPMVProcessor"}
    tokenizer.save_pretrained(folder)
    shutil.copy(CODE / "minicpmv.py", folder / "minicpmv.py")
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": code}))
    (folder / "preprocessor_config.json").write_text(json.dumps(images | kinds | {"auto_map": auto}))
    save_file(_minicpmv_tensors(config), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


BUILDERS = {"minicpmv_4_5": build_minicpmv_4_5}
