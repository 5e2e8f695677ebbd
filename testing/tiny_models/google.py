"""Tiny models of Google's families: Gemma 3 and Gemma 4."""

from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import TEXT, TOWER, save

GEMMA3_TEMPLATE = turns(
    "<start_of_turn>ROLE\n", "<end_of_turn>\n", "<start_of_turn>model\n", "<s>", image="<start_of_image>"
)
GEMMA4_TEMPLATE = turns(
    "<|turn>ROLE\n", "<turn|>\n", "<|turn>model\n", "<s>", image="\n\n<|image|>\n\n", video="\n\n<|video|>\n\n"
)


def build_gemma3(folder: Path) -> Path:
    """Write a Gemma 3: SigLIP tower of 56 px and patch 14, 16 patches pooled to 4 tokens an image."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = named_tokenizer(named, ["<start_of_turn>", "<end_of_turn>"], GEMMA3_TEMPLATE)
    tokenizer.add_tokens(["\n", "\n\n", "\n\n\n", "\n\n\n\n"])  # Gemma's vocabulary has them, and vLLM looks them up
    ids = tokenizer.convert_tokens_to_ids
    text: dict[str, Any] = TEXT | {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 512}
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=len(tokenizer), **text, layer_types=["sliding_attention", "full_attention"]
        ),
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        mm_tokens_per_image=4,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, tokenizer, chat_template=GEMMA3_TEMPLATE, image_seq_length=4)
    return save(folder, Gemma3ForConditionalGeneration, config, processor)


def build_gemma4(folder: Path) -> Path:
    """Write a Gemma 4 without its audio tower: patches of 16, pooled 3 x 3, at most 70 tokens a frame of a video."""
    from transformers import (
        Gemma4AudioFeatureExtractor,
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4ImageProcessor,
        Gemma4Processor,
        Gemma4TextConfig,
        Gemma4VideoProcessor,
        Gemma4VisionConfig,
    )

    named = {
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "image_token": "<|image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = named_tokenizer(named, ["<|turn>", "<turn|>", "<|video|>"], GEMMA4_TEMPLATE)
    ids = tokenizer.convert_tokens_to_ids
    layers = ["sliding_attention", "full_attention"]
    heads = {"head_dim": 32, "global_head_dim": 32, "layer_types": layers, "hidden_size_per_layer_input": 0}
    sizes = {name: TOWER[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    config = Gemma4Config(
        text_config=Gemma4TextConfig(
            vocab_size=len(tokenizer), **TEXT, **heads, vocab_size_per_layer_input=len(tokenizer)
        ),
        vision_config=Gemma4VisionConfig(
            **sizes, num_attention_heads=2, num_key_value_heads=2, head_dim=32, default_output_length=280
        ),
        audio_config=None,
        boi_token_id=ids("<|image>"),
        eoi_token_id=ids("<image|>"),
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        audio_token_id=ids("<|audio|>"),
        boa_token_id=ids("<|audio>"),
        eoa_token_index=ids("<audio|>"),
    )
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(),
        tokenizer,
        Gemma4VideoProcessor(),
        chat_template=GEMMA4_TEMPLATE,
    )
    return save(folder, Gemma4ForConditionalGeneration, config, processor, own_tower=True)


BUILDERS = {"gemma3": build_gemma3, "gemma4": build_gemma4}
