"""A window to be rendered, and what came of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.engines.model.media_form import MediaForm
from daemon.windows import FrameSet, Window


@dataclass(frozen=True, slots=True)
class RenderJob:
    """A window's prompt, and all of its frames but the pixels: so small that it goes to another process as it is.

    ``name`` is the request's. It names the media too, unless the engine looks for them by their content.
    """

    ids: list[int]
    form: MediaForm
    window: Window
    pts_ns: tuple[int, ...]
    shape: tuple[int, ...]
    name: str
    by_content: bool = False

    @classmethod
    def of(cls, frames: FrameSet, ids: list[int], form: MediaForm, name: str, *, by_content: bool) -> "RenderJob":
        """Make the job of a window whose prompt is ``ids``."""
        return cls(ids, form, frames.window, frames.pts_ns, frames.frames.shape, name, by_content)

    def request(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """Return what vLLM's renderer takes, for pixels of ``shape``."""
        media = self.form.window_media(FrameSet(self.window, pixels.reshape(self.shape), self.pts_ns))
        request: dict[str, Any] = {"prompt_token_ids": self.ids, "multi_modal_data": media}
        if arguments := self.form.processor_arguments(media):
            request["mm_processor_kwargs"] = arguments
        if not self.by_content:
            named = {kind: [f"{self.name}/{kind}/{at}" for at in range(len(items))] for kind, items in media.items()}
            request["multi_modal_uuids"] = named
        return request


@dataclass(frozen=True, slots=True)
class RenderedWindow:
    """vLLM's input for one window, and what making it took: ``queue_ms`` is the wait for a renderer."""

    input: dict[str, Any] = field(repr=False)
    size_bytes: int
    queue_ms: float
    render_ms: float
