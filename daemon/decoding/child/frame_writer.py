"""The writers of a clip's frames: PyAV's, on a graphics card where that can, decord's, and a picture's."""

import gc
import os
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.pictures.assembly import PictureWriter
from daemon.decoding.child.pictures.heif import read_heif
from daemon.decoding.child.pixels import Converter
from daemon.decoding.child.pyav import new_scaler
from daemon.decoding.media import HEAD_BYTES, MediaLimits, is_image
from daemon.decoding.packet_index import PacketIndex
from daemon.frame_look import ON_DEVICE, FrameSize, Look

_FRAMES_HELD = 24  # a decoder holds up to so many frames: 16 references, a few being reordered, a few shown
_LARGE_BYTES = 2**24  # what a decoder held of so much is not left to the collector's own time


class FrameWriter(Protocol):
    """Writes the frames of a clip by their index."""

    cost_bytes: int

    @property
    def on_device(self) -> bool:
        """Whether a graphics card decodes."""
        ...

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        """Name the frames that come next, and how many threads may decode them."""
        ...

    def write(self, frame_index: int, *outs: NDArray[np.uint8]) -> int:
        """Write frame ``frame_index`` into each ``uint8[H, W, 3]``, scaled to its size.

        Return the index of the frame that was written, -1 for none.
        """
        ...

    def close(self) -> None:
        """Let go of the decoder."""
        ...


class AvWriter:
    """Frames through PyAV: exact, forward, each group of pictures once."""

    def __init__(
        self,
        descriptor: int,
        index: PacketIndex,
        limits: MediaLimits,
        look: Look,
        own_size: FrameSize | None = None,
        cursor: FrameCursor | None = None,
        *,
        on_device: bool = False,
    ) -> None:
        self._descriptor, self._index, self._limits = descriptor, index, limits
        self._cursor = cursor or FrameCursor(descriptor, index, limits, on_device=on_device)
        self._converter = Converter(new_scaler, look, own_size)
        self._frames_held = min(_FRAMES_HELD, len(index))
        self.cost_bytes = self._cost_bytes(*cursor.frame_size) if cursor is not None else 0
        self._wanted: list[int] = []

    def _cost_bytes(self, width: int, height: int) -> int:
        return width * height * 2 * self._frames_held

    @property
    def on_device(self) -> bool:
        return self._cursor.on_device

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        self._wanted, self._converter.threads = frame_indices, threads
        self._cursor.want(frame_indices, threads)

    def write(self, frame_index: int, *outs: NDArray[np.uint8]) -> int:
        shown = self._cursor.get(frame_index)
        if self.on_device and (shown is None or shown[0] != frame_index):
            # whatever the card could not do, the processor may: the rest of the clip is its own
            self._cursor.close()
            self._cursor = FrameCursor(self._descriptor, self._index, self._limits)
            self._cursor.want(self._wanted)
            shown = self._cursor.get(frame_index)
        if shown is None:
            return -1
        self.cost_bytes = self._cost_bytes(shown[1].width, shown[1].height)
        aspect, orientation = self._cursor.sample_aspect(shown[1]), self._cursor.orientation(shown[1])
        for out in outs:
            self._converter.write(shown[1], out, aspect, orientation)
        return shown[0]

    def close(self) -> None:
        self._cursor.close()
        if self.cost_bytes > _LARGE_BYTES:
            gc.collect()  # PyAV's streams and containers hold each other, and a decoder its picture


def writer_of(
    descriptor: int,
    index: PacketIndex,
    limits: MediaLimits,
    look: Look | None = None,
    decoder: str = "av",
    own_size: FrameSize | None = None,
    cursor: FrameCursor | None = None,
) -> FrameWriter:
    """Return what writes a clip's frames; pictures go through PyAV whatever the decoder, for decord knows none.

    ``own_size`` is that of the clip's frames: :class:`daemon.decoding.child.pixels.Converter` says what for. ``cursor``
    is a place in the clip to go on from, which PyAV's writer takes over.
    """
    if cursor is not None:
        return AvWriter(descriptor, index, limits, look or Look(), own_size, cursor)
    picture = read_heif(descriptor)
    if picture is not None:
        return PictureWriter(descriptor, picture, limits, look or Look(), own_size)
    if decoder == "decord" and not is_image(os.pread(descriptor, HEAD_BYTES, 0)):
        from daemon.decoding.child.decord import DecordWriter

        return DecordWriter(descriptor, index, limits)
    return AvWriter(descriptor, index, limits, look or Look(), own_size, on_device=decoder == ON_DEVICE)
