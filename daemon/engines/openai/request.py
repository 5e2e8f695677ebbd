"""A window as an OpenAI-compatible server's request: one video with its times where the server takes it, or images.

vLLM reads ``data:video/jpeg;base64,`` and frames with commas between them as a video; its times stand in the request's
``media_io_kwargs``. It opens each frame by what its bytes are, not by that name, so PNG goes there: the server's model
gets the pixels that a model here would get, and not JPEG's.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.engines.model.media_form import MediaForm, as_images
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

if TYPE_CHECKING:
    from PIL.Image import Image

# what only some servers know, sent only where it differs from what every server does by itself
_EXTRAS: dict[str, Any] = {"min_tokens": 0, "top_k": 0, "repetition_penalty": 1.0, "seed": None, "stop": ()}
# what vLLM reads of a video beside its frames; the rest of the metadata is for a video that vLLM reads here
_TIMES = ("fps", "frames_indices", "total_num_frames", "duration", "do_sample_frames")
_ALL_FRAMES = -1  # vLLM takes the first 32 alone where a request says nothing


class WindowRequests:
    """One window's requests, each encoded once, in a thread: one for each form in which servers take it."""

    def __init__(self, model: str, frames: FrameSet, prompt: Prompt, text: str) -> None:
        self._model, self._frames, self._prompt, self._text = model, frames, prompt, text
        self._encoded: dict[MediaForm, bytes] = {}
        self.encoding_s = 0.0

    async def body(self, form: MediaForm) -> bytes:
        """Return the request whose window has ``form``, as JSON."""
        if form not in self._encoded:
            begun_s = time.monotonic()
            self._encoded[form] = await asyncio.to_thread(self._encode, form)
            self.encoding_s += time.monotonic() - begun_s
        return self._encoded[form]

    def _encode(self, form: MediaForm) -> bytes:
        return json.dumps(request_body(self._model, self._frames, self._prompt, self._text, form)).encode()


def request_body(model: str, frames: FrameSet, prompt: Prompt, text: str, form: MediaForm) -> dict[str, Any]:
    """Return a request: the frames, pixel for pixel, in front of the question ``text``."""
    media, times = media_parts(frames, form)
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    extras = {name: getattr(prompt, name) for name, usual in _EXTRAS.items() if getattr(prompt, name) != usual}
    if prompt.logprobs is not None:
        extras |= {"logprobs": True, "top_logprobs": prompt.logprobs}
    return {
        "model": model,
        "messages": [*system, {"role": "user", "content": [*media, {"type": "text", "text": text}]}],
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        **times,
        **extras,
    }


def media_parts(frames: FrameSet, form: MediaForm) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """Return a window as parts of a message, and what the request says of them beside."""
    if form.modality == "image":
        urls = [f"data:image/png;base64,{_png(image)}" for image in as_images(frames.frames)]
        return [{"type": "image_url", "image_url": {"url": url}} for url in urls], {}
    ((shown, metadata),) = form.window_media(frames)["video"]
    url = f"data:video/jpeg;base64,{','.join(map(_png, as_images(shown)))}"
    times = {"num_frames": _ALL_FRAMES, **{name: metadata[name] for name in _TIMES}}
    return [{"type": "video_url", "video_url": {"url": url}}], {"media_io_kwargs": {"video": times}}


def _png(image: "Image") -> str:
    """Return a picture without loss, in base64."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()
