"""The greedy answers of transformers, from the same frames with the same times."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.engines.model.frame_size import least_frames
from daemon.engines.model.media_form import MediaForm, as_images
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet


def transformers_answers(
    folder: Path, windows: Sequence[FrameSet], prompt: Prompt, *, as_video: bool = True
) -> list[tuple[int, ...]]:
    """Return the token ids of the greedy answer about each window, in float32.

    With ``as_video`` windows go as videos where transformers' processor takes them.
    """
    import torch
    from transformers import AutoConfig, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(folder)
    model = model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=torch.float32).eval()
    limits = {"max_new_tokens": prompt.max_tokens, "min_new_tokens": prompt.min_tokens}
    found = []
    for window in windows:
        inputs = inputs_of(processor, window, prompt, as_video=as_video)
        with torch.inference_mode():
            out = model.generate(**inputs, do_sample=False, **limits)
        found.append(tuple(out[0, inputs["input_ids"].shape[1] :].tolist()))
    return found


def whole_second_answers(folder: Path, windows: Sequence[FrameSet], prompt: Prompt) -> list[tuple[int, ...]]:
    """Return transformers' answers about windows whose frames come at whole seconds, which is what vLLM writes."""
    second = 1_000_000_000

    def floored(window: FrameSet) -> FrameSet:
        start = window.window.start_ns
        return replace(window, pts_ns=tuple(start + (at - start) // second * second for at in window.pts_ns))

    return transformers_answers(folder, [floored(window) for window in windows], prompt)


def model_class(config: Any) -> Any:
    """Return the class of transformers that a model's configuration names."""
    import transformers

    return getattr(transformers, config.architectures[0])


def image_answers(folder: Path, windows: Sequence[FrameSet], prompt: Prompt) -> list[tuple[int, ...]]:
    """Return the answers of a model whose windows go as images, though transformers would take them as videos."""
    return transformers_answers(folder, windows, prompt, as_video=False)


def inputs_of(processor: Any, window: FrameSet, prompt: Prompt, *, as_video: bool = True) -> Any:
    """Return what transformers' own processor makes of a window: a video where it takes videos, else images."""
    takes_videos = as_video and getattr(processor, "video_processor", None) is not None
    parts = [{"type": "video"}] if takes_videos else [{"type": "image"}] * len(window.frames)
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": prompt.text}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not takes_videos:
        return processor(text=text, images=as_images(window.frames), return_tensors="pt")
    ((frames, metadata),) = MediaForm("video", least_frames(processor, "video")).window_media(window)["video"]
    del metadata["do_sample_frames"]
    return processor(text=text, videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt")
