"""InternVL, in the naming of its checkpoints and in transformers'."""

from collections.abc import Sequence
from pathlib import Path

from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from testing.tiny_models.internvl import TWIN
from tests.families.family import Family


def twin_answers(folder: Path, windows: Sequence[FrameSet], prompt: Prompt) -> list[tuple[int, ...]]:
    """Return the greedy answers of transformers' InternVL with the same weights, to prompts and pixels as vLLM's.

    Its own processor writes other prompts: a line a frame, and frames resized another way.
    """
    import torch
    from transformers import AutoTokenizer, InternVLForConditionalGeneration
    from vllm.transformers_utils.processors.internvl import video_to_pixel_values_internvl

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = InternVLForConditionalGeneration.from_pretrained(folder / TWIN, dtype=torch.float32).eval()
    found = []
    for window in windows:
        frame = "<img>" + "<IMG_CONTEXT>" * model.config.image_seq_length + "</img>"
        shown = "".join(f"Frame{number}: {frame}" for number in range(1, len(window.frames) + 1))
        messages = [{"role": "user", "content": f"{shown}\n{prompt.text}"}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        one = {"input_size": 56, "min_num": 1, "max_num": 1, "use_thumbnail": False}
        pixels = video_to_pixel_values_internvl(window.frames.copy(), **one)
        limits = {"max_new_tokens": prompt.max_tokens, "min_new_tokens": prompt.min_tokens}
        with torch.inference_mode():
            out = model.generate(**ids, pixel_values=pixels, do_sample=False, **limits)
        found.append(tuple(out[0, ids["input_ids"].shape[1] :].tolist()))
    return found


FAMILIES = (
    Family(
        "InternVL2, 2.5, 3, 3.5",
        "internvl_chat",
        "video",
        in_ci=True,
        reference=twin_answers,
        args={"trust-remote-code": True},
    ),
    Family("InternVL3, 3.5 (-HF)", "internvl_hf", "video"),
)
