"""decord, and the only file that imports it: the same frames by the same indices, for parity with NeVA's loader.

decord goes on decoding in the background after a seek, without a bound, so a reader lives for one frame set only. It
turns frames itself, knows nothing of pixel aspect, and takes every video for BT.601. It numbers frames by its own
reading of the container, and steps to a number by counting from a key frame: with edit lists, missing time stamps or
open groups that is another frame. So every frame is held against PyAV's at that time, and a clip in which one differs
is refused.
"""

import io
import os
import resource
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectors.errors import Poison, Reason
from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.pixels import orientation_of
from daemon.decoding.child.pyav import new_scaler
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex

_SHARE_FOR_MEDIA = 4  # decord copies the file once more, and needs room to decode
_OTHERS = "decord gives other frames of this clip than are on screen"
_NONE = "decord does not give the frames of this clip"


class DecordWriter:
    """Frames through decord, scaled once like the others."""

    cost_bytes = 0
    on_device = False

    def __init__(self, descriptor: int, index: PacketIndex, limits: MediaLimits) -> None:
        self._media = _whole(descriptor)  # by its path it can't be opened again: the cage lets nothing be opened
        self._frames = len(index)
        self._cursor = FrameCursor(descriptor, index, limits)
        self._scaler = new_scaler()
        self._reader: Any = None

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        """Let the reader of the last set go: a new one begins."""
        self._reader = None
        self._cursor.want(frame_indices)

    def write(self, frame_index: int, *outs: NDArray[np.uint8]) -> int:
        shown = self._cursor.get(frame_index)
        if shown is None or shown[0] != frame_index:  # damaged there: decord shows whatever it has
            return -1
        try:
            reader = self._open()
            pixels = reader[frame_index].asnumpy() if len(reader) == self._frames else None
        except Exception:
            raise _refusal(_NONE) from None
        if pixels is None or not self._is_same_picture(pixels, shown[1]):
            raise _refusal(_OTHERS)
        for out in outs:
            np.copyto(out, pixels if pixels.shape == out.shape else _scaled(pixels, out))
        return frame_index

    def _is_same_picture(self, pixels: NDArray[np.uint8], frame: Any) -> bool:
        """Return whether RGB pixels show a decoded frame, by the brightness of both made small."""
        plane = self._scaler.reformat(frame, format="gray8", dst_color_range=_FULL_RANGE, threads=1).planes[0]
        grey = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width, None]
        upright = np.ascontiguousarray(orientation_of(frame).apply(grey)[:, :, 0])
        return bool(np.abs(_made_small(upright) - _made_small(_luma(pixels))).max() <= _MOST_APART)

    def close(self) -> None:
        """Let go of the reader and of what it decoded ahead."""
        self._reader = None
        self._cursor.close()

    def _open(self) -> Any:
        if self._reader is None:
            import decord

            decord.logging.set_level(decord.logging.QUIET)
            self._reader = decord.VideoReader(io.BytesIO(self._media), num_threads=1)
        return self._reader


_FULL_RANGE = 2  # libswscale's number
_SMALL = (32, 18)  # pixels in which two pictures are compared
_MOST_APART = 40  # of 255 levels of brightness: rounding and scaling stay far below, another frame seldom does


def _scaled(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = out.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _refusal(why: str) -> Poison:
    return Poison(Reason.UNSUPPORTED_CODEC, f"{why}; with frames.decoder: av it can be read")


def _made_small(grey: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.asarray(Image.fromarray(grey).resize(_SMALL, Image.Resampling.BOX), np.int16)


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _whole(descriptor: int) -> bytes:
    size_bytes, memory_bytes = os.fstat(descriptor).st_size, resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory_bytes != resource.RLIM_INFINITY and size_bytes > memory_bytes // _SHARE_FOR_MEDIA:
        detail = f"decord holds a file whole, and {size_bytes:,} bytes are too many for limits.decoder_memory_bytes"
        raise Poison(Reason.OVER_BUDGET, detail)
    return os.pread(descriptor, size_bytes, 0)
