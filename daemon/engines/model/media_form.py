"""A window's frames as a multimodal model takes them: one video with true times, or a list of images."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daemon.prompts.prompt import Modality
from daemon.windows import FrameSet, Window

if TYPE_CHECKING:
    from PIL.Image import Image

TICKS_PER_S = 1000  # a "frame rate" of one a millisecond lets frame indices carry time stamps
_NS_PER_TICK = 1_000_000_000 // TICKS_PER_S


def offsets_ms(frame_set: FrameSet) -> tuple[int, ...]:
    """Return when each frame is on screen, in milliseconds from the window's start."""
    return offsets_from(frame_set.window.start_ns, frame_set.pts_ns)


def offsets_from(start_ns: int, pts_ns: Iterable[int]) -> tuple[int, ...]:
    """Return time stamps in milliseconds from ``start_ns``; a frame that was on screen before counts from there.

    They rise strictly: where sampling outruns the clip, a frame that is shown again comes a millisecond later.
    """
    return rising(max(0, round((at_ns - start_ns) / _NS_PER_TICK)) for at_ns in pts_ns)


def rising(offsets: Iterable[int]) -> tuple[int, ...]:
    """Return the times with those that do not pass the one before put a millisecond behind it.

    Processors take the same time for the same frame: some leave it out of the times that they write, but not of the
    pixels, and the window's end is then never seen.
    """
    risen, last = list[int](), -1
    for at in offsets:
        last = max(at, last + 1)
        risen.append(last)
    return tuple(risen)


def video_metadata(offsets: tuple[int, ...], length_ms: int) -> dict[str, Any]:
    """Return what vLLM's ``video`` modality wants to know beside the frames.

    Frame indices are milliseconds at 1,000 frames a second, so models that write or rotate by time see the true times,
    and ``do_sample_frames`` is off: the frames are chosen already.
    """
    total = max(length_ms, offsets[-1] + 1)
    return {
        "fps": float(TICKS_PER_S),
        "frames_indices": list(offsets),
        "total_num_frames": total,
        "duration": total / TICKS_PER_S,
        "video_backend": "captiond",
        "do_sample_frames": False,
    }


def as_images(frames: NDArray[np.uint8]) -> "list[Image]":
    """Return ``uint8[N, H, W, 3]`` as N images; arrays of images would be taken for embeddings."""
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


@dataclass(frozen=True, slots=True)
class MediaForm:
    """The form in which a model takes a window: as one video, or as an image a frame.

    A video of fewer than ``least_frames`` frames is refused by some models' processors; its last frame is repeated.
    With ``takes_timestamps`` the processor is told the frames' times as an argument, beside their metadata.
    """

    modality: Modality
    least_frames: int = 1
    takes_timestamps: bool = False

    def items(self, num_frames: int) -> int:
        """Return how many placeholders a window of ``num_frames`` needs."""
        return num_frames if self.modality == "image" else 1

    def media(self, frames: NDArray[np.uint8], offsets: tuple[int, ...], length_ms: int) -> dict[str, Any]:
        """Return vLLM's ``multi_modal_data`` for ``uint8[N, H, W, 3]`` RGB frames, shown at ``offsets`` (ms)."""
        if self.modality == "image":
            return {"image": as_images(frames)}
        missing = max(0, self.least_frames - len(frames))
        # always a copy: processors make tensors of the frames, and torch warns of arrays that are read-only
        shown = np.concatenate([frames, *[frames[-1:]] * missing])
        return {"video": [(shown, video_metadata(rising(offsets + offsets[-1:] * missing), length_ms))]}

    def processor_arguments(self, media: dict[str, Any]) -> dict[str, Any]:
        """Return vLLM's ``mm_processor_kwargs`` for what :meth:`media` returned."""
        if not self.takes_timestamps:
            return {}
        metadata = [one for _, one in media.get("video", ())]
        return {"timestamps": [[at / one["fps"] for at in one["frames_indices"]] for one in metadata]}

    def sample(self, num_frames: int) -> dict[str, Any]:
        """Return vLLM's ``multi_modal_data`` for so many small black frames, to see what a processor makes of them."""
        return self.window_media(black_frames(num_frames))

    def window_media(self, frames: FrameSet) -> dict[str, Any]:
        """Return vLLM's ``multi_modal_data`` for a window."""
        length_ms = (frames.window.exclusive_end_ns - frames.window.start_ns) // _NS_PER_TICK
        return self.media(frames.frames, offsets_ms(frames), length_ms)


def black_frames(num_frames: int, height: int = 64, width: int = 64) -> FrameSet:
    """Return a window of black frames, a millisecond apart: enough to see that an engine answers."""
    times = tuple(k * _NS_PER_TICK for k in range(num_frames))
    window = Window(0, 0, num_frames * _NS_PER_TICK, times, tuple(range(num_frames)))
    return FrameSet(window, np.zeros((num_frames, height, width, 3), np.uint8), times)
