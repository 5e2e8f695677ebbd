"""Settings for the frames that a Video NeVA sees: the ``data`` section of its configuration, under NeVA's own names."""

import logging
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from connectors.section import Section
from daemon.windows import FramePolicy, WindowPolicy
from neva.conversations import TEMPLATES
from neva.pixel_values import AspectRatio

log = logging.getLogger(__name__)

# Keys of NeVA's `data` section that do not change the frames a model sees, and the reason that the log gives.
IGNORED = {
    "image_token_len": "it follows from crop size and patch size",
    "sep_token_between_frames": "no generation of NeVA reads it",
    "sep_image_conv_front": "it is for training on images",
    "packed_sequence": "it is for training",
    "num_workers": "it is for training",
    "dataloader_type": "it is for training",
    "data_path": "it is for training",
    "data_prefix": "it is for training",
    "lazy_preprocess": "it is for training",
    "is_multimodal": "it is for training",
    "conv_template_args": "it is for training",
    "image_folder": "it is for training; evaluation reads inference.media_base_path",
    "video_folder": "it is for training; evaluation reads inference.media_base_path",
    "image_processor": "the model's own processor is used",
    "add_extra_token": "it is for training",
    "context_length": "it is for training",
}


class MediaSettings(Section):
    """The choice of frames from a video or an image."""

    media_type: Literal["video", "image"] = Field("video", description="what the prompts speak of")
    num_frames: int = Field(8, ge=1, le=4096, description="frames a video, evenly spread, the last one repeated")
    splice_single_frame: Literal["first", "middle", "last"] | None = Field(None, description="show this frame alone")
    image_aspect_ratio: AspectRatio = Field("square", description="crop to a square, or pad to one first")
    legacy_bgr: bool = Field(False, description="turn the channels round: for checkpoints of NeVA's first generation")

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_name(cls, values: Any) -> Any:
        """Refuse two values of NeVA's that captiond does not have, with the reason or what to write instead."""
        if not isinstance(values, dict):
            return values
        if values.get("num_frames") == -1:
            raise ValueError(
                "num_frames: -1 (every frame) has no span of a known length; write how many frames to show"
            )
        if values.get("image_aspect_ratio") == "keep":
            raise ValueError("image_aspect_ratio: keep is for training on single images; write square or pad")
        return values

    @model_validator(mode="after")
    def _one_frame(self) -> Self:
        if self.media_type == "image" and self.splice_single_frame is not None:
            raise ValueError("splice_single_frame chooses among the frames of a video; an image has one")
        return self

    @property
    def frames_shown(self) -> int:
        """The number of frames that are shown of one video or image."""
        return 1 if self.media_type == "image" or self.splice_single_frame is not None else self.num_frames

    def to_policies(self) -> tuple[WindowPolicy, FramePolicy]:
        """Return the policies for the daemon's sampler: the clip is one window, and NeVA's rule chooses its frames."""
        return (
            WindowPolicy(whole=True),
            FramePolicy(rule="neva", num_frames=self.frames_shown, splice=self.splice_single_frame),
        )


class ModelSettings(MediaSettings):
    """The facts of a model, from ``neva.yaml`` in its folder: the frames and the prompt template of its training."""

    conv_template: str = Field("auto", description="one of NeVA's conversations; auto: the model's own chat template")
    answer_key: Literal["pred_answer", "text"] = Field("pred_answer", description="an evaluation's key for an answer")
    model_type: str = Field("", description="the family that names the span's tokens")
    use_im_start_end: bool = Field(False, description="keep the start and end tokens around the frames")

    @model_validator(mode="after")
    def _known_template(self) -> Self:
        if self.conv_template not in ("auto", *TEMPLATES):
            raise ValueError(f"there is no conv_template {self.conv_template!r}; there are {', '.join(TEMPLATES)}")
        return self


def without_ignored(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that change the frames a model sees; the log names the others and the reason to ignore them."""
    for key in sorted(IGNORED.keys() & values.keys()):
        log.info("data.%s is ignored: %s.", key, IGNORED[key])
    return {key: value for key, value in values.items() if key not in IGNORED}
