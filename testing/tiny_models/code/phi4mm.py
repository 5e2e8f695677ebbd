"""The configuration and processor in the folder of a Phi-4-multimodal: crops of 448 px, padded, beside the whole."""

import math
import re
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers import PretrainedConfig, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

CROP, PATCH = 448, 14


class Phi4MMConfig(PretrainedConfig):
    model_type = "phi4mm"


class Phi4MMImageProcessor(BaseImageProcessor):
    model_input_names = ["input_image_embeds", "image_sizes", "image_attention_mask"]  # noqa: RUF012

    def __init__(self, dynamic_hd=36, **kwargs):
        super().__init__(**kwargs)
        self.dynamic_hd = dynamic_hd

    def find_closest_aspect_ratio(self, aspect_ratio, target_ratios, width, height, image_size):
        return min(target_ratios, key=lambda ratio: abs(aspect_ratio - ratio[0] / ratio[1]))

    def grid(self, width, height):
        """Return how many crops an image has, across and down."""
        across, down = math.ceil(width / CROP), math.ceil(height / CROP)
        if across * down <= self.dynamic_hd:
            return across, down
        most = self.dynamic_hd
        ratios = [(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i * j <= most]
        ratios.sort(key=lambda ratio: ratio[0] * ratio[1])
        return self.find_closest_aspect_ratio(width / height, ratios, width, height, CROP)

    def preprocess(self, images, return_tensors=None, **kwargs):
        done = [self._crops(image.convert("RGB")) for image in images]
        most = max(len(crops) for crops, _, _ in done)
        pixels = torch.zeros(len(done), most, 3, CROP, CROP)
        masks = torch.zeros(len(done), most, CROP // PATCH, CROP // PATCH)
        for number, (crops, mask, _) in enumerate(done):
            pixels[number, : len(crops)], masks[number, : len(mask)] = crops, mask
        sizes = torch.tensor([size for _, _, size in done])
        return {"input_image_embeds": pixels, "image_sizes": sizes, "image_attention_mask": masks}

    def _crops(self, image):
        across, down = self.grid(*image.size)
        scale = min(across * CROP / image.width, down * CROP / image.height)
        width, height = min(across * CROP, int(image.width * scale)), min(down * CROP, int(image.height * scale))
        large = Image.new("RGB", (across * CROP, down * CROP), (255, 255, 255))
        large.paste(image.resize((width, height), Image.Resampling.BILINEAR))
        mask = torch.ones(down * CROP // PATCH, across * CROP // PATCH)
        if (empty := (down * CROP - height) // PATCH) > 0:
            mask[-empty:] = 0
        if (empty := (across * CROP - width) // PATCH) > 0:
            mask[:, -empty:] = 0
        boxes = [(x * CROP, y * CROP, (x + 1) * CROP, (y + 1) * CROP) for y in range(down) for x in range(across)]
        parts = [image.resize((CROP, CROP), Image.Resampling.BICUBIC), *(large.crop(box) for box in boxes)]
        pixels = torch.stack([torch.from_numpy(np.asarray(part, np.float32) / 127.5 - 1) for part in parts])
        side = CROP // PATCH
        masks = mask.reshape(down, side, across, side).permute(0, 2, 1, 3).reshape(-1, side, side)
        whole = torch.ones(1, side, side)
        return pixels.permute(0, 3, 1, 2), torch.cat([whole, masks]), (down * CROP, across * CROP)


class Phi4MMProcessor(ProcessorMixin):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.audio_processor = SimpleNamespace(sampling_rate=16000)

    def __call__(self, images=None, text=None, return_tensors=None, **kwargs):
        found = self.image_processor.preprocess(images) if images else {}
        text = [text] if isinstance(text, str) else text
        ids = self.tokenizer([re.sub(r"<\|image_\d+\|>", "", one) for one in text], return_tensors=return_tensors)
        return BatchFeature({**ids, **found})
