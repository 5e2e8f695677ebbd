"""Tiny models of the MiniCPM-V line: up to 4.5, whose checkpoints carry their own code, and 4.6."""

import json
import shutil
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import TEXT, TOWER, save

CODE = Path(__file__).with_name("code")
# as Qwen3's, which takes text alone: vLLM and captiond write the placeholder into it
TEXT_TEMPLATE = (
    "{% for message in messages %}{% if message.content is string %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
V4_6_TEMPLATE = turns(
    "<|im_start|>ROLE\n", "<|im_end|>\n", "<|im_start|>assistant\n", image="<|image_pad|>\n", video="<|video_pad|>\n"
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


def build_minicpmv_4_6(folder: Path) -> Path:
    """Write a MiniCPM-V 4.6: a tower of 56 px and patch 14 that merges 4 x 4, and Qwen3.5's language model."""
    from transformers import (
        MiniCPMV4_6Config,
        MiniCPMV4_6ForConditionalGeneration,
        MiniCPMV4_6ImageProcessor,
        MiniCPMV4_6Processor,
        MiniCPMV4_6VideoProcessor,
        Qwen3_5TextConfig,
    )

    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    for kind in ("image", "slice", "image_id"):
        named |= {f"{kind}_start_token": f"<{kind}>", f"{kind}_end_token": f"</{kind}>"}
    tokenizer = named_tokenizer(named, ["<|im_start|>", "<|im_end|>"], V4_6_TEMPLATE)
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 32}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
    text: dict[str, Any] = TEXT | heads | {"linear_value_head_dim": 32, "head_dim": 32, "rope_parameters": rope}
    config = MiniCPMV4_6Config(
        text_config=Qwen3_5TextConfig(vocab_size=len(tokenizer), layer_types=["full_attention"] * 2, **text).to_dict(),
        vision_config=TOWER | {"num_hidden_layers": 2},
        insert_layer_id=0,
        image_size=56,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    sizes = {"scale_resolution": 112, "patch_size": 14, "max_slice_nums": 4}
    images, videos = MiniCPMV4_6ImageProcessor(**sizes), MiniCPMV4_6VideoProcessor(**(sizes | {"max_slice_nums": 1}))
    processor = MiniCPMV4_6Processor(images, videos, tokenizer, chat_template=V4_6_TEMPLATE)
    return save(folder, MiniCPMV4_6ForConditionalGeneration, config, processor, own_tower=True)


BUILDERS = {"minicpmv_4_5": build_minicpmv_4_5, "minicpmv_4_6": build_minicpmv_4_6}
