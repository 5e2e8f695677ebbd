"""The configuration and processor in the folder of a Keye-VL 1.5: frames in patches, times as an argument."""

import numpy as np
import torch
from PIL import Image
from transformers import PretrainedConfig, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ProcessingKwargs, Unpack, VideosKwargs


class KeyeVL1_5VisionConfig(PretrainedConfig):
    model_type = "keye_vl1_5_vision"


class KeyeVL1_5Config(PretrainedConfig):
    model_type = "KeyeVL1_5"
    sub_configs = {"vision_config": KeyeVL1_5VisionConfig}  # noqa: RUF012  as transformers names it

    def __init__(self, vision_config=None, **kwargs):
        self.vision_config = KeyeVL1_5VisionConfig(**(vision_config or {}))
        super().__init__(**kwargs)


class KeyeVL1_5VideosKwargs(VideosKwargs, total=False):
    timestamps: list | None
    frame_types: list | None


class KeyeVL1_5ProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: KeyeVL1_5VideosKwargs


class KeyeVL1_5ImageProcessor(BaseImageProcessor):
    model_input_names = ["pixel_values", "image_grid_thw"]  # noqa: RUF012

    def __init__(self, size=None, patch_size=14, merge_size=2, **kwargs):
        super().__init__(**kwargs)
        self.size = size or {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
        self.patch_size, self.merge_size = patch_size, merge_size

    def patches_of(self, frame):
        """Return the patches of a frame, row by row, and how many rows and columns they make."""
        factor, patch = self.patch_size * self.merge_size, self.patch_size
        height, width = frame.shape[:2]
        scale = min(1.0, (self.size["max_pixels"] / (height * width)) ** 0.5)
        height, width = (max(factor, int(edge * scale) // factor * factor) for edge in (height, width))
        resized = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = torch.from_numpy(resized / 127.5 - 1).permute(2, 0, 1)
        cut = pixels.reshape(3, height // patch, patch, width // patch, patch).permute(1, 3, 0, 2, 4)
        return cut.reshape(-1, 3, patch, patch), (height // patch, width // patch)


class KeyeVL1_5Processor(ProcessorMixin):
    image_token, video_token, frame_token = "<|image_pad|>", "<|video_pad|>", "<|frame|>"
    fast_start, fast_end = "<|fast_start|>", "<|fast_end|>"

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images=None, text=None, videos=None, **kwargs: Unpack[KeyeVL1_5ProcessorKwargs]):
        found = {}
        if videos is not None:
            (frames,) = videos
            times = kwargs.get("timestamps")
            if times is not None and len(times[0]) != len(frames):
                raise ValueError(f"{len(times[0])} timestamps for {len(frames)} frames")
            cut = [self.image_processor.patches_of(np.asarray(frame)) for frame in frames]
            found["pixel_values_videos"] = torch.cat([patches for patches, _ in cut])
            found["video_grid_thw"] = torch.tensor([[len(frames), *cut[0][1]]])
            found["num_frames"] = torch.tensor([len(frames)])
        ids = self.tokenizer([text] if isinstance(text, str) else text, return_tensors=kwargs.get("return_tensors"))
        return BatchFeature({**ids, **found})
