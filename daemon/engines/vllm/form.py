"""The form of a model's media, found by trying its processor: how few frames a video may have, and how many."""

from typing import Any

from connectors.errors import ConfigurationError
from daemon.engines.library_errors import sentence
from daemon.engines.model.frame_size import least_frames
from daemon.engines.model.media_form import MediaForm
from daemon.engines.vllm import library
from daemon.prompts.prompt import Modality

ELSE = "docs/models.md names the families that captiond serves"

_NAMES = {"video": "one video", "image": "images"}
_MOST_LEAST_FRAMES = 4  # no family asks for more in one step of time


def form_of(processor: Any, modality: Modality, max_frames: int) -> MediaForm:
    """Return how a window's frames are handed to a processor: small black ones show what it takes.

    Raises:
        ConfigurationError: it takes no video of ``max_frames`` frames, or none at all.
    """
    takes_timestamps = library.takes_timestamps(processor)
    least = least_frames(processor.info.get_hf_processor(), modality)
    form = MediaForm(modality, least, takes_timestamps)
    if modality == "video":
        while form.least_frames < _MOST_LEAST_FRAMES and _refusal(processor, form, 1):
            form = MediaForm(modality, form.least_frames + 1, takes_timestamps)
    refusal = _refusal(processor, form, 2) or _refusal(processor, form, 3)  # an even count, and an odd one
    if refusal:
        message = f"vLLM's processor for it takes no window of several frames as {_NAMES[modality]}: {refusal}; {ELSE}"
        raise ConfigurationError(message, path="engine.model")
    if modality == "video" and (refusal := _refusal(processor, form, max_frames)):
        message = (
            f"the model's processor takes no video of {max_frames} frames: {refusal}; "
            "set frames.num_frames (frames.max_frames with frames.fps) to fewer"
        )
        raise ConfigurationError(message, path="frames")
    return form


def _refusal(processor: Any, form: MediaForm, num_frames: int) -> str:
    """Return what a processor says against so many frames; nothing where it takes them."""
    media = form.sample(num_frames)
    try:
        library.prompt_updates(processor, media, form.processor_arguments(media))
    except Exception as error:  # a processor is code of the model's authors: it may raise anything
        return sentence(error) or type(error).__name__
    return ""
