"""Preprocessing of frames for vision towers: the scaling, cropping and normalisation of CLIP and SigLIP.

:func:`pixel_values` computes the values, with Pillow's bicubic filter; :func:`processor_config` describes the same
steps for Hugging Face's processors, which take them where a model is served.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AspectRatio = Literal["square", "pad"]

_BICUBIC = 3  # Pillow's number for the filter, as Hugging Face's files have it


@dataclass(frozen=True, slots=True)
class TowerPixels:
    """The preprocessing for one family of towers; ``mean`` and ``std`` are of RGB values from 0 to 1.

    With ``crops`` the shortest edge is resized to the square's side and the centre is cropped; otherwise a frame is
    stretched to the square. ``processor`` is the name of Hugging Face's class for it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crops: bool
    processor: str

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """The colour that frames are padded with: the mean, rounded down; (122, 116, 104) for CLIP."""
        red, green, blue = (int(value * 255) for value in self.mean)
        return red, green, blue

    def reversed(self) -> "TowerPixels":
        """Return the preprocessing for a tower whose input channels are in reverse order."""
        return replace(self, mean=self.mean[::-1], std=self.std[::-1])


CLIP = TowerPixels(
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
    crops=True,
    processor="CLIPImageProcessor",
)
SIGLIP = TowerPixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crops=False, processor="SiglipImageProcessor")


def pad_to_square(frames: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return ``uint8[N, H, W, 3]`` as ``uint8[N, S, S, 3]``, S the longer edge, with the frame in the middle.

    Where the padding is an odd number of pixels, its smaller part is on the left or above.
    """
    count, height, width, _ = frames.shape
    side = max(height, width)
    if height == width:
        return frames
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.empty((count, side, side, 3), np.uint8)
    padded[:] = colour
    padded[:, top : top + height, left : left + width] = frames
    return padded


def prepare_frames(
    frames: NDArray[np.uint8], aspect_ratio: AspectRatio, tower: TowerPixels = CLIP, *, legacy_bgr: bool = False
) -> NDArray[np.uint8]:
    """Return ``uint8[N, H, W, 3]`` RGB frames as they go to the model's processor.

    ``pad`` makes them square first; ``legacy_bgr`` reverses the channels, as the first generation of Video NeVA did in
    training and in inference (before NeMo's pull request 9245).
    """
    if legacy_bgr:
        frames = frames[..., ::-1]
    return pad_to_square(frames, tower.pad_colour) if aspect_ratio == "pad" else frames


def pixel_values(
    frames: NDArray[np.uint8], tower: TowerPixels, crop_px: int, aspect_ratio: AspectRatio = "square"
) -> NDArray[np.float32]:
    """Return the tower's input for ``uint8[N, H, W, 3]`` RGB frames: ``float32[N, 3, crop_px, crop_px]``."""
    prepared = prepare_frames(frames, aspect_ratio, tower)
    scaled = np.stack([_scale(frame, tower, crop_px) for frame in prepared]).astype(np.float32) / 255
    normal = (scaled - np.asarray(tower.mean, np.float32)) / np.asarray(tower.std, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), dtype=np.float32)


def _scale(frame: NDArray[np.uint8], tower: TowerPixels, crop_px: int) -> NDArray[np.uint8]:
    """Return one frame as ``uint8[crop_px, crop_px, 3]``."""
    height, width, _ = frame.shape
    size = (crop_px, crop_px)
    if tower.crops:  # the longer edge is rounded down
        short = min(height, width)
        size = (width * crop_px // short, height * crop_px // short)
    image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - crop_px) // 2, (size[1] - crop_px) // 2
    return np.asarray(image.crop((left, top, left + crop_px, top + crop_px)), dtype=np.uint8)


def processor_config(tower: TowerPixels, crop_px: int, aspect_ratio: AspectRatio) -> dict[str, Any]:
    """Return the ``preprocessor_config.json`` of a model with this tower."""
    square = {"height": crop_px, "width": crop_px}
    return {
        "image_processor_type": "LlavaImageProcessor" if aspect_ratio == "pad" else tower.processor,
        "do_convert_rgb": True,
        "do_pad": aspect_ratio == "pad",
        "do_resize": True,
        "size": {"shortest_edge": crop_px} if tower.crops else square,
        "resample": _BICUBIC,
        "do_center_crop": tower.crops,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(tower.mean),
        "image_std": list(tower.std),
    }
