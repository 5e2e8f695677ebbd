"""Tiny models whose checkpoints carry their own code and that transformers has no class for: Kimi-VL.

Their weights are made by vLLM (``load_format: dummy``): nothing else could say what is right to answer.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import TEXT

CODE = Path(__file__).with_name("code")
KIMI_TEMPLATE = turns(
    "<|im_ROLE|>ROLE<|im_middle|>",
    "<|im_end|>",
    "<|im_assistant|>assistant<|im_middle|>",
    image="<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
)


def _write(folder: Path, tokenizer: Any, config: dict[str, Any], code: str, **files: dict[str, Any]) -> Path:
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
    return _write(folder, tokenizer, config, "kimi_vl.py", preprocessor_config=images)


BUILDERS = {"kimi_vl": build_kimi_vl}
