"""The configuration and processor in the folder of a MiniCPM-V up to 4.5, of which vLLM takes the image processor."""

import math

import numpy as np
import torch
from PIL import Image
from transformers import ProcessorMixin, Qwen3Config
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.models.siglip import SiglipVisionConfig


class MiniCPMVConfig(Qwen3Config):
    model_type = "minicpmv"

    def __init__(self, vision_config=None, query_num=4, version="4.5", drop_vision_last_layer=False, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = SiglipVisionConfig(**(vision_config or {}))
        self.query_num, self.version, self.drop_vision_last_layer = query_num, version, drop_vision_last_layer


class MiniCPMVImageProcessor(BaseImageProcessor):
    """Scales an image to about ``scale_resolution`` squared pixels, and cuts large ones into slices beside it."""

    model_input_names = ["pixel_values"]  # noqa: RUF012  as transformers names it

    def __init__(self, max_slice_nums=9, scale_resolution=448, patch_size=14, image_feature_size=64, **kwargs):
        super().__init__(**kwargs)
        self.max_slice_nums, self.scale_resolution, self.patch_size = max_slice_nums, scale_resolution, patch_size
        self.image_feature_size = image_feature_size
        self.im_id_start, self.im_id_end = "<image_id>", "</image_id>"

    def get_sliced_grid(self, image_size, max_slice_nums=None):
        width, height = image_size
        limit = max_slice_nums or self.max_slice_nums
        multiple = min(math.ceil(width * height / self.scale_resolution**2), limit)
        if multiple <= 1:
            return None
        wanted = math.log(width / height)
        counts = [count for count in (multiple - 1, multiple, multiple + 1) if 1 < count <= limit]
        grids = [
            (columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0
        ]
        return min(grids, key=lambda grid: abs(wanted - math.log(grid[0] / grid[1])))

    def get_slice_image_placeholder(self, image_size, image_idx=0, max_slice_nums=None, use_image_id=True):
        features = "<unk>" * self.image_feature_size
        text = f"{self.im_id_start}{image_idx}{self.im_id_end}" if use_image_id else ""
        text += f"<image>{features}</image>"
        grid = self.get_sliced_grid(image_size, max_slice_nums)
        if grid is not None:
            text += "\n".join([f"<slice>{features}</slice>" * grid[0]] * grid[1])
        return text

    def preprocess(self, images, do_pad=True, max_slice_nums=None, return_tensors=None, **kwargs):
        pixels, sizes, grids = [], [], []
        for given in images:
            many = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in given]
            slices = [one for image in many for one in self._slices(image, max_slice_nums)]
            pixels.append([self._patches(one) for one in slices])
            sizes.append([image.size for image in many])
            grids.append(
                torch.tensor([(one.height // self.patch_size, one.width // self.patch_size) for one in slices])
            )
        return BatchFeature({"pixel_values": pixels, "image_sizes": sizes, "tgt_sizes": grids})

    def _slices(self, image, max_slice_nums):
        grid = self.get_sliced_grid(image.size, max_slice_nums)
        whole = image.resize(self._size(image.size, grow=grid is None), Image.Resampling.BICUBIC)
        if grid is None:
            return [whole]
        width, height = self._size((image.width / grid[0], image.height / grid[1]), grow=True)
        large = image.resize((width * grid[0], height * grid[1]), Image.Resampling.BICUBIC)
        corners = [(column * width, row * height) for row in range(grid[1]) for column in range(grid[0])]
        return [whole, *(large.crop((x, y, x + width, y + height)) for x, y in corners)]

    def _size(self, size, *, grow):
        width, height = size
        if grow or width * height > self.scale_resolution**2:
            ratio = width / height
            height = int(self.scale_resolution / math.sqrt(ratio))
            width = int(height * ratio)
        patch = self.patch_size
        return max(round(width / patch) * patch, patch), max(round(height / patch) * patch, patch)

    def _patches(self, image):
        pixels = torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)
        patch = self.patch_size
        columns = torch.nn.functional.unfold(pixels, (patch, patch), stride=(patch, patch))
        return columns.reshape(3, patch, patch, -1).permute(0, 1, 3, 2).reshape(3, patch, -1)


class MiniCPMVProcessor(ProcessorMixin):
    """The pair of both; vLLM takes it apart again."""

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer)
