"""A tiny Phi-4-multimodal: its language model is tiny, but vLLM fixes the size of its tower (430 M parameters)."""

import json
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer
from testing.tiny_models.parts import TEXT
from testing.tiny_models.remote import write

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 200064  # vLLM knows the ids of the placeholders by heart: 200010 and 200011
AUDIO = {
    "input_size": 80,
    "chunk_size": -1,
    "left_chunk": 18,
    "attention_dim": 64,
    "attention_heads": 2,
    "linear_units": 64,
    "num_blocks": 1,
    "depthwise_seperable_out_channel": 64,
    "ext_pw_out_channel": 64,
    "kernel_size": 3,
    "activation": "swish",
    "conv_activation": "swish",
    "input_layer": "nemo_conv",
    "time_reduction": 8,
    "nemo_conv_settings": {"conv_channels": 64},
    "encoder_embedding_config": {"input_size": 80},
    "relative_attention_bias_args": {"type": "t5", "t5_bias_max_distance": 50},
}


def _adapter(folder: Path, rank: int) -> None:
    """Write the adapter with which the language model reads images."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    modules = ["qkv_proj", "o_proj"]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": modules, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    tensors: dict[str, Any] = {}
    for layer in range(2):
        for name, width in (("qkv_proj", 192), ("o_proj", 64)):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{place}.lora_A.weight"] = torch.randn(rank, 64)
            tensors[f"{place}.lora_B.weight"] = torch.randn(width, rank)
    save_file(tensors, folder / "adapter_model.safetensors")


def build_phi4mm(folder: Path) -> Path:
    """Write a Phi-4-multimodal with the adapter for images beside it."""
    tokenizer = named_tokenizer({}, ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], TEMPLATE)
    audio = {"embedding_cls": "audio", "compression_rate": 8, "downsample_rate": 1, "projection_cls": "mlp"}
    code = {"AutoConfig": "phi4mm.Phi4MMConfig", "AutoProcessor": "phi4mm.Phi4MMProcessor"}
    config: dict[str, Any] = TEXT | {
        "architectures": ["Phi4MMForCausalLM"],
        "model_type": "phi4mm",
        "vocab_size": VOCABULARY,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "logit_scale": 1e5,  # vLLM's random weights are so small that a softmax of them can be flat
        "img_processor": None,
        "audio_processor": {"name": "cascades", "config": AUDIO},
        "embd_layer": {"embedding_cls": "image_audio", "audio_embd_layer": audio},
        "vision_lora": {"r": 8, "lora_alpha": 16, "dp": 0.0},
        "dtype": "float32",
        "auto_map": code,
    }
    auto = {"AutoImageProcessor": "phi4mm.Phi4MMImageProcessor", "AutoProcessor": "phi4mm.Phi4MMProcessor"}
    images = {"image_processor_type": "Phi4MMImageProcessor", "dynamic_hd": 2, "auto_map": auto}
    _adapter(folder / "vision-lora", 8)
    return write(folder, tokenizer, config, "phi4mm.py", preprocessor_config=images)


BUILDERS = {"phi4mm": build_phi4mm}
