"""The choice of frames that a model's authors publish, by its family: ``frames.preset``.

Each is data and nothing else: the keys of ``frames`` that it stands for. A key that the configuration gives itself wins
over the preset's. ``max_frame_tokens`` is no key of the configuration: it is how Qwen's authors bound a frame.
"""

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["qwen", "internvl", "llava-onevision", "glm", "minicpm-v", "gemma4", "smolvlm2"]

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    # qwen-vl-utils: FPS 2.0, FPS_MIN_FRAMES 4, FPS_MAX_FRAMES 768, at most 768 tokens a frame; Qwen2.5-VL's model card:
    # total_pixels 24,576 x 28 x 28, in units of two frames, which is so many tokens. transformers 5.19 has the caps as
    # cap_pixels_per_frame (Qwen2VLVideoProcessor, Qwen3VLVideoProcessor).
    "qwen": {
        "fps": 2.0,
        "min_frames": 4,
        "max_frames": 768,
        "max_frame_tokens": 768,
        "max_vision_tokens": 24_576,
    },
    # InternVL2 to 3.5, model cards: load_video(num_segments=8, max_num=1), a tile of 448 x 448 a frame, which the model
    # makes itself. From memory of the cards.
    "internvl": {"num_frames": 8},
    # LLaVA-OneVision's paper and LLaVA-NeXT's evaluation of videos: 32 frames of 384 x 384, 196 tokens each. From
    # memory.
    "llava-onevision": {"num_frames": 32},
    # transformers 5.19, Glm4vVideoProcessor: fps 2, max_duration 300 s; it has a budget of pixels of its own.
    "glm": {"fps": 2.0, "min_frames": 1, "max_frames": 600},
    # MiniCPM-V 2.6's model card: a frame a second, MAX_NUM_FRAMES 64. From memory; transformers 5.19 has max_num_frames
    # 128 for MiniCPM-V 4.6.
    "minicpm-v": {"fps": 1.0, "min_frames": 1, "max_frames": 64},
    # transformers 5.19, Gemma4VideoProcessor: num_frames 32; vLLM's most too (gemma4_mm.py, _VIDEO_MAX_FRAMES).
    "gemma4": {"num_frames": 32},
    # SmolVLM2's processor configurations: video_sampling {fps: 1, max_frames: 64}, which transformers 5.19 reads
    # (SmolVLMVideoProcessor). From memory.
    "smolvlm2": {"fps": 1.0, "min_frames": 1, "max_frames": 64},
}

# a key that is given takes these of a preset away: they say the same in another way
_INSTEAD = {
    "num_frames": ("fps", "min_frames", "max_frames"),
    "fps": ("num_frames",),
    "max_pixels": ("max_frame_tokens",),
}
KEYS = frozenset(key for preset in PRESETS.values() for key in preset) | {"max_pixels"}


def preset_keys(preset: Preset | None, given: frozenset[str]) -> dict[str, Any]:
    """Return what a preset says of the keys that are not ``given``."""
    gone = given.union(*(_INSTEAD.get(key, ()) for key in given))
    return {} if preset is None else {key: value for key, value in PRESETS[preset].items() if key not in gone}
