"""The configuration and processor in the folder of a LLaVA-OneVision-2: patches as Qwen2-VL's, each with its place."""

import torch
from transformers import PretrainedConfig, Qwen3Config
from transformers.image_processing_utils import BatchFeature


class LlavaOnevision2VisionConfig(PretrainedConfig):
    model_type = "llava_onevision2_vision"


class LlavaOnevision2Config(PretrainedConfig):
    model_type = "llava_onevision2"
    sub_configs = {"text_config": Qwen3Config, "vision_config": LlavaOnevision2VisionConfig}  # noqa: RUF012

    def __init__(self, text_config=None, vision_config=None, **kwargs):
        self.text_config = Qwen3Config(**(text_config or {}))
        self.vision_config = LlavaOnevision2VisionConfig(**(vision_config or {}))
        super().__init__(**kwargs)


class LlavaOnevision2VideoProcessor:
    def __init__(self, image_processor=None, **kwargs):
        self.image_processor = image_processor


class LlavaOnevision2Processor:
    """No processor of transformers: a plain class, as the checkpoint's."""

    def __init__(self, image_processor=None, tokenizer=None, video_processor=None, codec_config=None):
        self.image_processor, self.tokenizer, self.video_processor = image_processor, tokenizer, video_processor
        self._codec_config_defaults = codec_config or {}

    def __call__(self, images=None, text=None, return_tensors=None, **kwargs):
        found = dict(self.image_processor(images=images, return_tensors="pt")) if images else {}
        merge = self.image_processor.merge_size
        places = []
        text = text if isinstance(text, str) else text[0]
        for frame, (time, rows, columns) in enumerate(found.get("image_grid_thw", torch.empty(0, 3)).tolist()):
            text = text.replace("<|image_pad|>", "<|seen|>" * (time * rows * columns // merge**2), 1)
            row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            flat = torch.stack([torch.full_like(row, frame), row, column], -1)
            blocks = flat.reshape(rows // merge, merge, columns // merge, merge, 3).permute(0, 2, 1, 3, 4)
            places.append(blocks.reshape(-1, 3))
        if places:
            found["patch_positions"] = torch.cat(places)
        ids = self.tokenizer([text.replace("<|seen|>", "<|image_pad|>")], return_tensors=return_tensors)
        return BatchFeature({**ids, **found})
