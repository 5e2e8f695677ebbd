"""Tiny models of the Qwen-VL line, which merge frames in pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from testing.tiny_models.parts import QWEN_TEMPLATE, QWEN_VISION, TEXT, byte_tokenizer, save

# Qwen3-VL's images are normalised as its videos are; vLLM takes the image processor's figures for both
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _qwen_tokenizer(more: list[str] | None = None) -> Any:
    tokens = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    return byte_tokenizer([*tokens, *(more or [])], QWEN_TEMPLATE)


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    ids = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def build_qwen2_5_vl(folder: Path) -> Path:
    """Write a Qwen2.5-VL: patches of 14, merged 2 x 2, two frames a time step, at most 112 x 112 pixels a frame."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _qwen_tokenizer()
    vision = QWEN_VISION | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    text = TEXT | {"vocab_size": len(tokenizer), "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    pixels = {"shortest_edge": 28 * 28, "longest_edge": 8 * 112 * 112}
    images, videos = Qwen2VLImageProcessor(size=pixels), Qwen2VLVideoProcessor(size=pixels)
    processor = Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=QWEN_TEMPLATE)
    return save(folder, Qwen2_5_VLForConditionalGeneration, config, processor)


def build_qwen3_vl(folder: Path) -> Path:
    """Write a Qwen3-VL, which writes the time of every second frame into the prompt."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = _qwen_tokenizer()
    vision = QWEN_VISION | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = TEXT | {"vocab_size": len(tokenizer), "head_dim": 32, "rope_scaling": rope}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 8 * 128 * 128}
    sizes = {"patch_size": 16, "merge_size": 2, "size": pixels}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**sizes, **_HALF), tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=QWEN_TEMPLATE
    )
    return save(folder, Qwen3VLForConditionalGeneration, config, processor)


def build_qwen3_5(folder: Path) -> Path:
    """Write a Qwen3.5: Qwen3-VL's way with videos, and a language model that is linear attention in every other layer.

    Its template opens a chain of thought, unless ``enable_thinking`` is false.
    """
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3_5Config,
        Qwen3_5ForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = _qwen_tokenizer(["<think>", "</think>"])
    vision = QWEN_VISION | {"patch_size": 16, "num_position_embeddings": 64}
    rope = {
        **{"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        **{"mrope_section": [3, 3, 2], "mrope_interleaved": True},
    }
    linear = {
        **{"linear_key_head_dim": 32, "linear_value_head_dim": 32},
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 2},
    }
    text = TEXT | {"vocab_size": len(tokenizer), "head_dim": 32, "rope_parameters": rope, **linear}
    text["layer_types"] = ["linear_attention", "full_attention"]
    config = Qwen3_5Config(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 8 * 128 * 128}
    sizes = {"patch_size": 16, "merge_size": 2, "size": pixels}
    thinking = (
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
        "{% else %}<think>\n{% endif %}"
    )
    template = QWEN_TEMPLATE.replace("assistant\n{% endif %}", f"assistant\n{thinking}{{% endif %}}")
    tokenizer.chat_template = template
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**sizes, **_HALF), tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=template
    )
    return save(folder, Qwen3_5ForConditionalGeneration, config, processor)


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": build_qwen2_5_vl,
    "qwen3_vl": build_qwen3_vl,
    "qwen3_5": build_qwen3_5,
}
