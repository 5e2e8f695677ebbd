"""Tiny models of families that cut images into tiles: InternVL as transformers writes it, SmolVLM2."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import TEXT, TOWER, save

INTERNVL_TEMPLATE = turns(
    "<|im_start|>ROLE\n", "<|im_end|>\n", "<|im_start|>assistant\n", image="<IMG_CONTEXT>\n", video="<video>\n"
)
SMOLVLM_TEMPLATE = turns(
    "ROLE: ", "<end_of_utterance>\n", "Assistant:", "<|im_start|>", image="<image>", video="<video>"
)


def build_internvl_hf(folder: Path) -> Path:
    """Write an InternVL of transformers' own class: tower of 56 px and patch 14, shuffled to 4 tokens a frame."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        InternVLVisionConfig,
        Qwen2Config,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = named_tokenizer(named, ["<|im_start|>", "<|im_end|>"], INTERNVL_TEMPLATE)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**(TOWER | {"image_size": (56, 56), "patch_size": (14, 14)})),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    size = {"height": 56, "width": 56}
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4)
    processor = InternVLProcessor(
        images, tokenizer, InternVLVideoProcessor(size=size), image_seq_length=4, chat_template=INTERNVL_TEMPLATE
    )
    return save(folder, InternVLForConditionalGeneration, config, processor, own_tower=True)


@dataclass
class SmolVLMFiles:
    """What a ``SmolVLMProcessor`` writes; it can't be made where the package ``num2words`` is not installed."""

    tokenizer: Any
    config: dict[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps(self.config))


def build_smolvlm2(folder: Path) -> Path:
    """Write a SmolVLM2: SigLIP tower of 56 px and patch 14, 4 tokens a tile, and frames cut into tiles."""
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMVideoProcessor,
    )
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

    named = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = named_tokenizer(named, ["<|im_start|>", "<video>", *tiles], SMOLVLM_TEMPLATE)
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(**TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=258,
    )
    edges = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    videos = SmolVLMVideoProcessor(**edges, num_frames=8, fps=1)
    parts = {"image_processor": SmolVLMImageProcessor(**edges).to_dict(), "video_processor": videos.to_dict()}
    processor = SmolVLMFiles(tokenizer, {**parts, "image_seq_len": 4, "processor_class": "SmolVLMProcessor"})
    return save(folder, SmolVLMForConditionalGeneration, config, processor)


BUILDERS = {"internvl_hf": build_internvl_hf, "smolvlm2": build_smolvlm2}
