"""decord, and the only file that imports it: the same frames by the same indices, for parity with NeVA's loader.

decord goes on decoding in the background after a seek, without a bound, so a reader lives for one frame set only. It
turns frames itself, knows nothing of pixel aspect, and takes every video for BT.601.
"""

import io
import os
import resource
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectors.errors import Poison, Reason

_SHARE_FOR_MEDIA = 4  # decord copies the file once more, and needs room to decode


class DecordWriter:
    """Frames through decord, scaled once like the others."""

    cost_bytes = 0

    def __init__(self, descriptor: int) -> None:
        self._media = _whole(descriptor)  # by its path it can't be opened again: the cage lets nothing be opened
        self._reader: Any = None

    def want(self, frame_indices: list[int]) -> None:
        """Let the reader of the last set go: a new one begins."""
        self.close()

    def write(self, frame_index: int, out: NDArray[np.uint8]) -> int:
        try:
            pixels = self._open()[frame_index].asnumpy()
        except Exception:
            return -1
        height, width = out.shape[:2]
        if pixels.shape != out.shape:
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        np.copyto(out, pixels)
        return frame_index

    def close(self) -> None:
        """Let go of the reader and of what it decoded ahead."""
        self._reader = None

    def _open(self) -> Any:
        if self._reader is None:
            import decord

            decord.logging.set_level(decord.logging.QUIET)
            self._reader = decord.VideoReader(io.BytesIO(self._media), num_threads=1)
        return self._reader


def _whole(descriptor: int) -> bytes:
    size_bytes, memory_bytes = os.fstat(descriptor).st_size, resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory_bytes != resource.RLIM_INFINITY and size_bytes > memory_bytes // _SHARE_FOR_MEDIA:
        detail = f"decord holds a file whole, and {size_bytes:,} bytes are too many for limits.decoder_memory_bytes"
        raise Poison(Reason.OVER_BUDGET, detail)
    return os.pread(descriptor, size_bytes, 0)
