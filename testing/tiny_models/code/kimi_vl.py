"""The processor in the folder of a Kimi-VL: patches of images at their own size, padded to whole pairs of patches."""

import math

import numpy as np
import torch
from PIL import Image
from transformers import ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature


class KimiVLImageProcessor(BaseImageProcessor):
    model_input_names = ["pixel_values", "image_grid_hws"]  # noqa: RUF012  as transformers names it

    def __init__(self, patch_size=14, in_token_limit=4096, merge_kernel_size=(2, 2), **kwargs):
        super().__init__(**kwargs)
        self.patch_size, self.in_token_limit = patch_size, in_token_limit
        self.merge_kernel_size = list(merge_kernel_size)

    def preprocess(self, images, return_tensors=None, **kwargs):
        done = [self._patches(image) for image in images]
        pixels = torch.cat([patches for patches, _ in done])
        return BatchFeature(
            {"pixel_values": pixels, "image_grid_hws": np.array([grid for _, grid in done])}, return_tensors
        )

    def _patches(self, image):
        width, height = image.size
        patch, unit = self.patch_size, self.patch_size * self.merge_kernel_size[0]
        if (width // patch) * (height // patch) > self.in_token_limit:
            scale = math.sqrt(self.in_token_limit / ((width // patch) * (height // patch)))
            width, height = int(width * scale), int(height * scale)
        pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), np.float32)
        padded = np.zeros((-(-height // unit) * unit, -(-width // unit) * unit, 3), np.float32)
        padded[:height, :width] = pixels / 127.5 - 1
        rows, columns = padded.shape[0] // patch, padded.shape[1] // patch
        cut = padded.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3)
        return torch.from_numpy(cut.reshape(rows * columns, 3, patch, patch).copy()), (rows, columns)


class KimiVLProcessor(ProcessorMixin):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token = "<|media_pad|>"  # noqa: S105
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images=None, text=None, return_tensors=None, **kwargs):
        found = dict(self.image_processor.preprocess(images, return_tensors="pt")) if images is not None else {}
        text = [text] if isinstance(text, str) else list(text)
        kernel = self.image_processor.merge_kernel_size
        for grid in found.get("image_grid_hws", ()):
            many = int(grid.prod()) // (kernel[0] * kernel[1])
            text = [one.replace(self.image_token, "<|placeholder|>" * many, 1) for one in text]
        text = [one.replace("<|placeholder|>", self.image_token) for one in text]
        return BatchFeature({**self.tokenizer(text, return_tensors=return_tensors), **found})
