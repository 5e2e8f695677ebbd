"""The frames that a model's processor has a use for: how large they are at most, and how many there are at least."""

import math
from collections.abc import Mapping
from typing import Any

from daemon.frame_look import MaxFrameSize
from daemon.prompts.prompt import Modality

_WIDEST = 16 / 9  # frames up to this aspect lose nothing; wider ones reach the processor a little small
_LARGEST_EDGE_PX = 4096  # a limit above it is none: hardly a frame is larger


def max_frame_size(processor: Any, modality: Modality) -> MaxFrameSize | None:
    """Return the size that frames are scaled down into, their aspect kept; None for native size.

    ``processor`` is a Hugging Face processor. It does the last resize, so this size leaves it at least as many pixels
    as it keeps of a 16:9 frame, standing or lying. A model that crops, or cuts images into tiles, gets native size.
    """
    part = getattr(processor, f"{modality}_processor", None)
    size = getattr(part, "size", None)
    if size is None or modality == "image" or getattr(part, "do_center_crop", None):
        return None
    edge = _useful_edge(size if isinstance(size, Mapping) else vars(size))
    return MaxFrameSize(edge, edge) if edge is not None and edge <= _LARGEST_EDGE_PX else None


def _useful_edge(size: Mapping[str, Any]) -> int | None:
    """Return the longer edge of a 16:9 frame that fills what ``size`` describes: a fixed size or a pixel budget."""
    height, width, budget_px = (int(size.get(name) or 0) for name in ("height", "width", "longest_edge"))
    if height and width:
        return math.ceil(max(height, width) * _WIDEST)
    if budget_px > _LARGEST_EDGE_PX:  # Qwen's processors keep pixels under this name
        return math.ceil(math.sqrt(budget_px * _WIDEST))
    return None


def least_frames(processor: Any, modality: Modality) -> int:
    """Return how many frames a video must have: models that merge frames in pairs may refuse a single one."""
    part = getattr(processor, "video_processor", None)
    return int(getattr(part, "temporal_patch_size", None) or 1) if modality == "video" else 1


def normalises_unalike(processor: Any) -> bool:
    """Whether a Hugging Face processor shifts and scales the colours of videos otherwise than those of images."""
    image, video = (getattr(processor, f"{name}_processor", None) for name in ("image", "video"))
    if image is None or video is None:
        return False
    return any(
        list(getattr(image, name, None) or ()) != list(getattr(video, name, None) or ())
        for name in ("image_mean", "image_std")
    )
