"""A tiny Video-LLaMA3, which vLLM runs through transformers' own class."""

from pathlib import Path
from typing import Any

from testing.tiny_models.named import named_tokenizer, turns
from testing.tiny_models.parts import TEXT, TOWER, save

TEMPLATE = turns(
    "<|im_start|>ROLE\n", "<|im_end|>\n", "<|im_start|>assistant\n", image="<|image_pad|>\n", video="<|video_pad|>\n"
)


def build_video_llama3(folder: Path) -> Path:
    """Write a Video-LLaMA3: patches of 14, merged 2 x 2; patches that hardly change are left out, as in checkpoints."""
    from transformers import (
        Qwen2Config,
        VideoLlama3Config,
        VideoLlama3ForConditionalGeneration,
        VideoLlama3ImageProcessor,
        VideoLlama3Processor,
        VideoLlama3VideoProcessor,
        VideoLlama3VisionConfig,
    )

    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    tokenizer = named_tokenizer(named, ["<|im_start|>", "<|im_end|>"], TEMPLATE)
    tower: dict[str, Any] = {key: value for key, value in TOWER.items() if key != "image_size"}
    config = VideoLlama3Config(
        vision_config=VideoLlama3VisionConfig(**tower),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    size = {"shortest_edge": 28 * 28, "longest_edge": 8 * 56 * 56}
    videos = VideoLlama3VideoProcessor(size=size, fps=1, do_sample_frames=True)
    processor = VideoLlama3Processor(VideoLlama3ImageProcessor(size=size), tokenizer, videos, chat_template=TEMPLATE)
    return save(folder, VideoLlama3ForConditionalGeneration, config, processor)


BUILDERS = {"video_llama3": build_video_llama3}
