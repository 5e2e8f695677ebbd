"""Tiny models whose checkpoints carry their own code and that transformers has no class for: Kimi-VL.

Their weights are made by vLLM (``load_format: dummy``): nothing else could say what is right to answer.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import QWEN_TEMPLATE, TEXT

CODE = Path(__file__).with_name("code")
KIMI_TEMPLATE = turns(
    "<|im_ROLE|>ROLE<|im_middle|>",
    "<|im_end|>",
    "<|im_assistant|>assistant<|im_middle|>",
    image="<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
)
MOLMO_TEMPLATE = turns(
    "<|im_start|>ROLE\n", "<|im_end|>\n", "<|im_start|>assistant\n", image="<|image|>", video="<|video|>"
)
NEMOTRON_TEMPLATE = turns(
    "<SPECIAL_10>ROLE\n", "\n<SPECIAL_11>", "<SPECIAL_10>assistant\n", image="<image>\n", video="<video>\n"
)


def write(folder: Path, tokenizer: Any, config: dict[str, Any], code: str, **files: dict[str, Any]) -> Path:
    """Write a checkpoint's folder with its own code, and with weights that are not read."""
    import torch
    from safetensors.torch import save_file

    tokenizer.save_pretrained(folder)
    shutil.copy(CODE / code, folder / code)
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def build_kimi_vl(folder: Path) -> Path:
    """Write a Kimi-VL: MoonViT over frames at their own size, and DeepSeek's attention."""
    marks = [f"<|im_{name}|>" for name in ("user", "system", "assistant", "middle", "end")]
    media = [f"<|media_{name}|>" for name in ("start", "content", "pad", "end")]
    tokenizer = named_tokenizer({}, [*marks, *media], KIMI_TEMPLATE)
    text = TEXT | {
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "vocab_size": len(tokenizer),
        "moe_intermediate_size": 64,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
    }
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = {
        "architectures": ["KimiVLForConditionalGeneration"],
        "model_type": "kimi_vl",
        "text_config": text,
        "vision_config": vision | {"model_type": "moonvit", "patch_size": 14, "merge_kernel_size": [2, 2]},
        "media_placeholder_token_id": tokenizer.convert_tokens_to_ids("<|media_pad|>"),
        "pad_token_id": 258,
        "dtype": "float32",
    }
    auto = {"AutoImageProcessor": "kimi_vl.KimiVLImageProcessor", "AutoProcessor": "kimi_vl.KimiVLProcessor"}
    images = {"image_processor_type": "KimiVLImageProcessor", "patch_size": 14, "in_token_limit": 64, "auto_map": auto}
    return write(folder, tokenizer, config, "kimi_vl.py", preprocessor_config=images)


def build_molmo2(folder: Path) -> Path:
    """Write a Molmo2: frames of 56 px and patch 14, pooled 2 x 2, each with its time in front."""
    media = ["<|image|>", "<|video|>", "<im_patch>", "<im_col>", "<im_low>"]
    ends = ["<im_start>", "<im_end>", "<low_res_im_start>", "<frame_start>", "<frame_end>"]
    tokenizer = named_tokenizer({}, ["<|im_start|>", "<|im_end|>", *media, *ends], MOLMO_TEMPLATE)
    ids = tokenizer.convert_tokens_to_ids
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "hidden_size": 64}
    layers = {"num_hidden_layers": 2, "intermediate_size": 128, "layer_norm_eps": 1e-6}
    text = (
        TEXT
        | heads
        | layers
        | {
            "model_type": "molmo2_text",
            "vocab_size": len(tokenizer),
            "additional_vocab_size": 0,
            "hidden_act": "silu",
            "qkv_bias": False,
            "use_qk_norm": True,
            "qk_norm_type": "qwen3",
            "norm_after": False,
            "rope_theta": 10000.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "rope_scaling_layers": None,
            "tie_word_embeddings": False,
        }
    )
    vit = (
        heads
        | layers
        | {
            "hidden_act": "gelu_pytorch_tanh",
            "image_default_input_size": [56, 56],
            "image_patch_size": 14,
            "image_num_pos": 16,
        }
    )
    adapter = heads | {
        "vit_layers": [-1, -2],
        "pooling_attention_mask": True,
        "hidden_act": "silu",
        "intermediate_size": 128,
        "text_hidden_size": 64,
    }
    names = {"image_patch_id": "<im_patch>", "image_col_id": "<im_col>", "image_low_res_id": "<im_low>"}
    marks = {
        "image_start_token_id": "<im_start>",
        "image_end_token_id": "<im_end>",
        "low_res_image_start_token_id": "<low_res_im_start>",
        "frame_start_token_id": "<frame_start>",
        "frame_end_token_id": "<frame_end>",
    }
    config = {
        "architectures": ["Molmo2ForConditionalGeneration"],
        "model_type": "molmo2",
        "text_config": text,
        "vit_config": vit,
        "adapter_config": adapter,
        "tie_word_embeddings": False,
        "dtype": "float32",
        "auto_map": {"AutoConfig": "molmo2.Molmo2Config", "AutoProcessor": "molmo2.Molmo2Processor"},
        **{name: ids(mark) for name, mark in {**names, **marks}.items()},
    }
    processor = "molmo2.Molmo2Processor"
    images = {"AutoImageProcessor": "molmo2.Molmo2ImageProcessor", "AutoProcessor": processor}
    videos = {"AutoVideoProcessor": "molmo2.Molmo2VideoProcessor", "AutoProcessor": processor}
    return write(
        folder,
        tokenizer,
        config,
        "molmo2.py",
        preprocessor_config={"image_processor_type": "Molmo2ImageProcessor", "auto_map": images},
        video_preprocessor_config={"video_processor_type": "Molmo2VideoProcessor", "auto_map": videos},
    )


def build_llava_onevision2(folder: Path) -> Path:
    """Write a LLaVA-OneVision-2: patches of 14, merged 2 x 2, and the time of each frame in front of it."""
    vision = [f"<|vision_{end}|>" for end in ("start", "end")]
    tokenizer = named_tokenizer(
        {}, ["<|im_start|>", "<|im_end|>", *vision, "<|image_pad|>", "<|video_pad|>"], QWEN_TEMPLATE
    )
    ids = tokenizer.convert_tokens_to_ids
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = {
        "architectures": ["LlavaOnevision2ForConditionalGeneration"],
        "model_type": "llava_onevision2",
        "text_config": TEXT | {"model_type": "qwen3", "vocab_size": len(tokenizer), "head_dim": 32},
        "vision_config": tower | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 1},
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "dtype": "float32",
        "auto_map": {"AutoConfig": "processing_llava_onevision2.LlavaOnevision2Config"},
    }
    images = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 28 * 28, "longest_edge": 112 * 112},
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 1,
    }
    shutil.copy(CODE / "llava_onevision2.py", folder / "video_processing_llava_onevision2.py")
    shutil.copy(CODE / "llava_onevision2.py", folder / "processing_llava_onevision2.py")
    return write(folder, tokenizer, config, "llava_onevision2.py", preprocessor_config=images)


def build_nemotron_vl(folder: Path) -> Path:
    """Write a Nemotron Nano VL v2: RADIO's smallest tower, 64 px and patch 16, and a Mamba beside the attention."""
    tokenizer = named_tokenizer({}, ["<SPECIAL_10>", "<SPECIAL_11>", "<img>", "</img>", "<image>"], NEMOTRON_TEMPLATE)
    language = TEXT | {
        "model_type": "nemotron_h",
        "architectures": ["NemotronHForCausalLM"],
        "vocab_size": len(tokenizer),
        "head_dim": 32,
        "layers_block_type": ["linear_attention", "full_attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "n_groups": 1,
        "ssm_state_size": 32,
        "dtype": "bfloat16",
    }
    config = {
        "architectures": ["NemotronH_Nano_VL_V2"],
        "model_type": "NemotronH_Nano_VL_V2",
        "llm_config": {key: value for key, value in language.items() if key != "num_hidden_layers"},
        "vision_config": {
            "args": {"model": "vit_small_patch16_224"},
            "preferred_resolution": [64, 64],
            "patch_size": 16,
        },
        "force_image_size": 64,
        "patch_size": 16,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "image_tag_type": "internvl",
        "template": "",
        "use_thumbnail": True,
        "norm_mean": [0.48, 0.46, 0.41],
        "norm_std": [0.27, 0.26, 0.28],
        "vit_hidden_size": 384,
        "projector_hidden_size": 128,
        "dtype": "bfloat16",
        "auto_map": {"AutoConfig": "nemotron_vl.NemotronHNanoVLConfig"},
    }
    return write(folder, tokenizer, config, "nemotron_vl.py")


BUILDERS = {
    "kimi_vl": build_kimi_vl,
    "molmo2": build_molmo2,
    "llava_onevision2": build_llava_onevision2,
    "nemotron_vl": build_nemotron_vl,
}
