"""Tiny models of the GLM-V line, whose video is a sequence of images with the second of each between them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from testing.tiny_models.parts import TEXT, byte_tokenizer, save

GLM_TOKENS = [
    *("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|image|>", "<|video|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
]
GLM_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% elif part['type'] == 'video' %}<|begin_of_video|><|video|><|end_of_video|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 8 * 112 * 112}


def _configuration(kind: Any, tokenizer: Any) -> Any:
    vision = {
        **{"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64},
        **{"image_size": 56, "patch_size": 14},
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 3, 3]}
    ids = tokenizer.convert_tokens_to_ids
    return kind(
        text_config=TEXT | {"vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config=vision,
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
    )


def build_glm4_1v(folder: Path) -> Path:
    """Write a GLM-4.1V: patches of 14, merged 2 x 2, two frames a time step, whole seconds after each."""
    from transformers import (
        Glm4vConfig,
        Glm4vForConditionalGeneration,
        Glm4vImageProcessor,
        Glm4vProcessor,
        Glm4vVideoProcessor,
    )

    tokenizer = byte_tokenizer(GLM_TOKENS, GLM_TEMPLATE)
    images, videos = Glm4vImageProcessor(size=_PIXELS), Glm4vVideoProcessor(size=_PIXELS, max_image_size=_PIXELS)
    processor = Glm4vProcessor(images, tokenizer, videos, chat_template=GLM_TEMPLATE)
    return save(folder, Glm4vForConditionalGeneration, _configuration(Glm4vConfig, tokenizer), processor)


def build_glm4_6v(folder: Path) -> Path:
    """Write a GLM-4.6V-Flash: GLM-4.1V's model with a processor that writes seconds with a decimal and the word."""
    from transformers import (
        Glm4vConfig,
        Glm4vForConditionalGeneration,
        Glm46VImageProcessor,
        Glm46VProcessor,
        Glm46VVideoProcessor,
    )

    tokenizer = byte_tokenizer(GLM_TOKENS, GLM_TEMPLATE)
    images, videos = Glm46VImageProcessor(size=_PIXELS), Glm46VVideoProcessor(size=_PIXELS, max_image_size=_PIXELS)
    processor = Glm46VProcessor(images, tokenizer, videos, chat_template=GLM_TEMPLATE)
    return save(folder, Glm4vForConditionalGeneration, _configuration(Glm4vConfig, tokenizer), processor)


BUILDERS: dict[str, Callable[[Path], Path]] = {"glm4_1v": build_glm4_1v, "glm4_6v": build_glm4_6v}
