"""Tiny LLaVA models: image by image, and with a video of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from testing.tiny_models.parts import IMAGE_TEMPLATE, TEXT, TOWER, byte_tokenizer, save


def build_llava(folder: Path, *, text: dict[str, Any] | None = None) -> Path:
    """Write a LLaVA: CLIP tower of 56 px and patch 14 (16 tokens an image), projector, Llama."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer(["<image>"], IMAGE_TEMPLATE)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **(TEXT | (text or {}))),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    images = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=IMAGE_TEMPLATE,
    )
    return save(folder, LlavaForConditionalGeneration, config, processor)


def build_llava_onevision(folder: Path) -> Path:
    """Write a LLaVA-OneVision: SigLIP tower of 56 px and patch 14, pooled to 2 x 2 tokens a video frame, Qwen2."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = byte_tokenizer(["<image>", "<video>"], IMAGE_TEMPLATE)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[56, 56], [56, 112], [112, 56]],
        vision_feature_select_strategy="full",
    )
    size = {"height": 56, "width": 56}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=config.image_grid_pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=IMAGE_TEMPLATE,
    )
    return save(folder, LlavaOnevisionForConditionalGeneration, config, processor)


def build_llava_next_video(folder: Path) -> Path:
    """Write a LLaVA-NeXT-Video: CLIP tower of 56 px and patch 7, pooled to 4 x 4 tokens a frame, Llama."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextImageProcessor,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
        LlavaNextVideoProcessor,
        LlavaNextVideoVideoProcessor,
    )

    tokenizer = byte_tokenizer(["<image>", "<video>"], IMAGE_TEMPLATE)
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**(TOWER | {"patch_size": 7})),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[56, 56], [56, 112], [112, 56]],
        image_seq_length=64,
        video_seq_length=16,
    )
    size, crop = {"shortest_edge": 56}, {"height": 56, "width": 56}
    processor = LlavaNextVideoProcessor(
        LlavaNextVideoVideoProcessor(size=size, crop_size=crop),
        LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=config.image_grid_pinpoints),
        tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=IMAGE_TEMPLATE,
    )
    return save(folder, LlavaNextVideoForConditionalGeneration, config, processor)


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "llava": build_llava,
    "llava_onevision": build_llava_onevision,
    "llava_next_video": build_llava_next_video,
}
