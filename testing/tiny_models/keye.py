"""A tiny Keye-VL 1.5, whose processor is code of its checkpoints and is told the frames' times as an argument."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from testing.tiny_models.parts import QWEN_TEMPLATE, TEXT, TOWER, byte_tokenizer

_CODE = Path(__file__).with_name("code") / "keye_vl1_5.py"
_TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|frame|>", "<|fast_start|>", "<|fast_end|>"),
]


def build_keye_vl1_5(folder: Path) -> Path:
    """Write a Keye-VL 1.5: SigLIP with rotation of patches of 14, merged 2 x 2, Qwen3. vLLM makes its weights."""
    import torch
    from safetensors.torch import save_file

    tokenizer = byte_tokenizer(_TOKENS, QWEN_TEMPLATE)
    ids = tokenizer.convert_tokens_to_ids
    vision = {"num_channels": 3, "spatial_merge_size": 2, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
    name = _CODE.stem
    config = TEXT | {
        "architectures": ["KeyeVL1_5ForConditionalGeneration"],
        "model_type": "KeyeVL1_5",
        "auto_map": {"AutoConfig": f"{name}.KeyeVL1_5Config", "AutoProcessor": f"{name}.KeyeVL1_5Processor"},
        "vision_config": TOWER | vision,
        "vocab_size": len(tokenizer),
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "dtype": "float32",
    }
    auto = {"AutoImageProcessor": f"{name}.KeyeVL1_5ImageProcessor", "AutoProcessor": f"{name}.KeyeVL1_5Processor"}
    images = {"image_processor_type": "KeyeVL1_5ImageProcessor", "auto_map": auto}
    tokenizer.save_pretrained(folder)
    shutil.copy(_CODE, folder / _CODE.name)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {"keye_vl1_5": build_keye_vl1_5}
