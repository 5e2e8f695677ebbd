"""A window as an OpenAI-compatible server's request: one video with its times where the server takes it, or images.

vLLM reads ``data:video/jpeg;base64,`` and frames with commas between them as a video; its times stand in the request's
``media_io_kwargs``. It opens each frame by what its bytes are, not by that name, so PNG goes there: the server's model
gets the pixels that a model here would get, and not JPEG's.
"""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.engines.model.media_form import MediaForm, as_images
from daemon.engines.vllm.args import REPETITION
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

if TYPE_CHECKING:
    from PIL.Image import Image

# what only some servers know, sent only where it differs from what every server does by itself
_EXTRAS: dict[str, Any] = {
    "min_tokens": 0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "ignore_eos": False, "seed": None, "stop": (),
}  # fmt: skip
# what vLLM reads of a video beside its frames; the rest of the metadata is for a video that vLLM reads here
TIMES = ("fps", "frames_indices", "total_num_frames", "duration", "do_sample_frames")
_ALL_FRAMES = -1  # vLLM takes the first 32 alone where a request says nothing
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """A window's frames as pictures without loss: enough for requests of every form, and the frames may go.

    ``numbered`` is the window with one pixel a frame, its number: which frames a form shows, and when, is read from it.
    """

    pictures: tuple[str, ...] = field(repr=False)
    numbered: FrameSet

    @classmethod
    def of(cls, frames: FrameSet) -> "EncodedWindow":
        """Encode a window's frames; it takes a while."""
        numbers = np.arange(len(frames.frames))
        pixels = np.zeros((len(numbers), 1, 1, 3), np.uint8)
        pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = numbers % 256, numbers // 256
        pictures = tuple(map(_png, as_images(frames.frames)))
        return cls(pictures, frames.with_pixels(pixels))

    @property
    def size_bytes(self) -> int:
        """The memory that the pictures take."""
        return sum(map(len, self.pictures))

    def parts(self, form: MediaForm) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """Return the window as parts of a message, and what a request says of them beside."""
        if form.modality == "image":
            urls = [f"data:image/png;base64,{picture}" for picture in self.pictures]
            return [{"type": "image_url", "image_url": {"url": url}} for url in urls], _NOTHING
        ((shown, metadata),) = form.window_media(self.numbered)["video"]
        numbers = shown[:, 0, 0, 0] + 256 * shown[:, 0, 0, 1].astype(int)
        url = f"data:video/jpeg;base64,{','.join(self.pictures[number] for number in numbers)}"
        times = {"num_frames": _ALL_FRAMES, **{name: metadata[name] for name in TIMES}}
        return [{"type": "video_url", "video_url": {"url": url}}], {"media_io_kwargs": {"video": times}}


def request_body(
    model: str, window: EncodedWindow, prompt: Prompt, form: MediaForm, also: Mapping[str, Any] = _NOTHING
) -> dict[str, Any]:
    """Return a request: the window, pixel for pixel, in front of the question, and what ``also`` says beside."""
    media, times = window.parts(form)
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    extras = {name: getattr(prompt, name) for name, usual in _EXTRAS.items() if getattr(prompt, name) != usual}
    if prompt.logprobs is not None:
        extras |= {"logprobs": True, "top_logprobs": prompt.logprobs}
    sampling = {"temperature": prompt.temperature, "top_p": prompt.top_p, **extras}
    return {
        "model": model,
        "messages": [*system, {"role": "user", "content": [*media, {"type": "text", "text": prompt.text}]}],
        "max_tokens": prompt.max_tokens,
        **times,
        **{name: value for name, value in sampling.items() if name not in prompt.from_model},
        **also,
    }


def form_in_body(prompt: Prompt, *, is_vllm: bool) -> dict[str, Any]:
    """Return the part of a request that asks for the answer's form, as far as the server knows how to be asked for it.

    Every server is asked for a schema's JSON in the same words; only vLLM's for one of several words or an expression,
    and to stop an answer that repeats itself.
    """
    found: dict[str, Any] = {"repetition_detection": REPETITION} if is_vllm and prompt.stop_loops else {}
    form = prompt.form
    if form is None:
        return found
    if form.kind == "schema":
        name = "".join(char if char.isalnum() else "_" for char in prompt.name or "caption")
        schema = {"name": name, "schema": form.value, "strict": True}
        return found | {"response_format": {"type": "json_schema", "json_schema": schema}}
    return found | {"structured_outputs": {form.kind: form.value}} if is_vllm else found


def as_json(body: Mapping[str, Any]) -> bytes:
    """Return a request as it is sent. A window's is large, so a thread makes it."""
    return json.dumps(body).encode()


def _png(image: "Image") -> str:
    """Return a picture in base64."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()
