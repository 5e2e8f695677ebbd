"""The configuration and processor in the folder of a Molmo2: one crop a frame, pooled patches, times in the prompt."""

import numpy as np
import torch
from PIL import Image
from transformers import PretrainedConfig, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.video_processing_utils import BaseVideoProcessor


class Molmo2TextConfig(PretrainedConfig):
    model_type = "molmo2_text"


class Molmo2VitConfig(PretrainedConfig):
    model_type = "molmo2_vit"


class Molmo2AdapterConfig(PretrainedConfig):
    model_type = "molmo2_adapter"


class Molmo2Config(PretrainedConfig):
    model_type = "molmo2"
    sub_configs = {  # noqa: RUF012  as transformers names it
        "text_config": Molmo2TextConfig,
        "vit_config": Molmo2VitConfig,
        "adapter_config": Molmo2AdapterConfig,
    }

    def __init__(self, text_config=None, vit_config=None, adapter_config=None, **kwargs):
        self.text_config = Molmo2TextConfig(**(text_config or {}))
        self.vit_config = Molmo2VitConfig(**(vit_config or {}))
        self.adapter_config = Molmo2AdapterConfig(**(adapter_config or {}))
        super().__init__(**kwargs)


class Molmo2ImageProcessor(BaseImageProcessor):
    """Says the sizes alone: windows go as videos."""

    model_input_names = ["pixel_values"]  # noqa: RUF012  as transformers names it

    def __init__(self, size=None, patch_size=14, pooling_size=(2, 2), max_crops=8, overlap_margins=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.size = size or {"height": 56, "width": 56}
        self.patch_size, self.pooling_size, self.max_crops = patch_size, list(pooling_size), max_crops
        self.overlap_margins = list(overlap_margins)


class Molmo2VideoProcessor(BaseVideoProcessor):
    model_input_names = ["pixel_values_videos"]  # noqa: RUF012  as transformers names it
    size = {"height": 56, "width": 56}  # noqa: RUF012  as transformers names it
    patch_size = 14
    pooling_size = [2, 2]  # noqa: RUF012
    num_frames = 384
    max_fps = 2
    sampling_fps = 2
    frame_sample_mode = "uniform_last_frame"

    def patches_of(self, frames):
        """Return the patches of each frame, and which of them each place in the prompt pools."""
        height, width, patch = self.size["height"], self.size["width"], self.patch_size
        rows, columns = height // patch, width // patch
        many = [
            Image.fromarray(np.asarray(frame)).resize((width, height), Image.Resampling.BILINEAR) for frame in frames
        ]
        pixels = torch.from_numpy(np.stack([np.asarray(one, np.float32) for one in many]) / 127.5 - 1)
        cut = pixels.reshape(len(many), rows, patch, columns, patch, 3).permute(0, 1, 3, 2, 4, 5)
        pool_rows, pool_columns = self.pooling_size
        places = torch.arange(len(many) * rows * columns).reshape(
            len(many), rows // pool_rows, pool_rows, columns // pool_columns, pool_columns
        )
        pooled = places.permute(0, 1, 3, 2, 4).reshape(-1, pool_rows * pool_columns)
        grid = [len(many), rows // pool_rows, columns // pool_columns]
        return cut.reshape(len(many), rows * columns, -1), pooled, torch.tensor([grid])


class Molmo2Processor(ProcessorMixin):
    def __init__(self, image_processor=None, tokenizer=None, video_processor=None, chat_template=None, **kwargs):
        self.image_use_col_tokens = self.use_single_crop_start_token = self.use_frame_special_tokens = True
        self.video_use_col_tokens = self.use_single_crop_col_tokens = False
        super().__init__(image_processor, tokenizer, video_processor, chat_template=chat_template)

    def __call__(self, images=None, text=None, videos=None, video_metadata=None, return_tensors=None, **kwargs):
        found = {}
        if videos is not None:
            frames, metadata = videos[0][0], video_metadata[0][0]
            pixels, pooled, grid = self.video_processor.patches_of(frames)
            found = {"pixel_values_videos": pixels, "video_token_pooling": pooled, "video_grids": grid}
            seen = f"<frame_start>{'<im_patch>' * int(grid[0, 1:].prod())}<frame_end>"
            times = [index / metadata.fps for index in metadata.frames_indices]
            text = text.replace("<|video|>", " ".join(f"{at:.1f} {seen}" for at in times), 1)
        ids = self.tokenizer([text] if isinstance(text, str) else text, return_tensors=return_tensors)
        return BatchFeature({**ids, **found})
