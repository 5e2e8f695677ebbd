"""Tiny models of random weights, made offline: the architectures that captiond's adapter must serve, without weights.

Every model has a tokenizer of single bytes, its family's own processor and a chat template, and heads of 32 channels,
the smallest that vLLM's attention on the CPU takes. Text and vision towers have two heads, so two devices can share
them. :func:`build` writes a model once a folder.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGE_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'video' %}<video>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
TOWER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
QWEN_VISION = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}


def byte_tokenizer(extra_tokens: list[str], template: str) -> Any:
    """Return a tokenizer whose first 256 ids are the bytes, then ``<s> </s> <pad>``, then ``extra_tokens``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **special)
    fast.add_special_tokens({"additional_special_tokens": extra_tokens})
    fast.chat_template = template
    return fast


def _save(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    """Write a model of random weights and its processor as Hugging Face does, with the tensor names that vLLM loads."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    model = kind(config).float().eval()
    model.generation_config.pad_token_id = 258
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    weights = folder / "model.safetensors"
    renamed = {
        name.replace("vision_tower.embeddings", "vision_tower.vision_model.embeddings")
        .replace("vision_tower.encoder", "vision_tower.vision_model.encoder")
        .replace("vision_tower.pre_layrnorm", "vision_tower.vision_model.pre_layrnorm")
        .replace("vision_tower.post_layernorm", "vision_tower.vision_model.post_layernorm"): tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(renamed, weights, metadata={"format": "pt"})
    return folder


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
    return _save(folder, LlavaForConditionalGeneration, config, processor)


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
    return _save(folder, LlavaOnevisionForConditionalGeneration, config, processor)


def _qwen_tokenizer() -> Any:
    tokens = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    return byte_tokenizer(tokens, QWEN_TEMPLATE)


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
    return _save(folder, Qwen2_5_VLForConditionalGeneration, config, processor)


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
        Qwen2VLImageProcessor(**sizes), tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=QWEN_TEMPLATE
    )
    return _save(folder, Qwen3VLForConditionalGeneration, config, processor)


def build_llama(folder: Path) -> Path:
    """Write a Llama: a model of text alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer([], IMAGE_TEMPLATE)
    return _save(folder, LlamaForCausalLM, LlamaConfig(vocab_size=len(tokenizer), **TEXT), tokenizer)


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "llava": build_llava,
    "llava_onevision": build_llava_onevision,
    "qwen2_5_vl": build_qwen2_5_vl,
    "qwen3_vl": build_qwen3_vl,
    "llama": build_llama,
}


def build(name: str, parent: Path) -> Path:
    """Return the folder of the tiny model ``name`` under ``parent``, written at the first call."""
    folder = parent / name
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        BUILDERS[name](folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a model's ``config.json``, for tests of models that do not fit."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
