"""The writers of a clip's frames: PyAV's, on a graphics card where that can, decord's, and a picture's."""

import gc
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.child.crew import Crew
from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.open_window import Places, fill
from daemon.decoding.child.pictures.assembly import PictureWriter
from daemon.decoding.child.pictures.heif import read_heif
from daemon.decoding.child.pixels import Converter
from daemon.decoding.child.pyav import new_scaler
from daemon.decoding.child.stream.decoder import Orientations
from daemon.decoding.child.stream.place import LostPlaceError
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
        self._new_converter = partial(Converter, new_scaler, look, own_size)
        self._converter = self._new_converter()
        self._crew: Crew | None = None
        self._frames_held = min(_FRAMES_HELD, len(index))
        self.cost_bytes = self._cost_bytes(*cursor.frame_size) if cursor is not None else 0
        self._wanted: list[int] = []
        self.threads = 1

    def _cost_bytes(self, width: int, height: int) -> int:
        decoders = 1 + (self._crew.decoders if self._crew is not None else 0)
        return width * height * 2 * self._frames_held * decoders

    @property
    def on_device(self) -> bool:
        return self._cursor.on_device

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        self._wanted, self.threads = frame_indices, threads
        self._cursor.want(frame_indices, threads)

    def write(self, frame_index: int, *outs: NDArray[np.uint8]) -> int:
        shown = self._get(frame_index)
        if shown is None:
            return -1
        return self._convert(self._converter, shown, *outs)

    @property
    def has_crew(self) -> bool:
        """Whether several threads have begun."""
        return self._crew is not None

    def write_side_by_side(self, due: Mapping[int, Places], ahead: Mapping[int, Places]) -> dict[int, int]:
        """Write frames into their places by several threads; return what :func:`write_all` does."""
        if self._crew is None or self._crew.size < self.threads:
            self._let_crew_go()
            self._crew = Crew(self.threads, self._new_converter, lambda: self._cursor.group_decoder(), self._convert)
        crew = self._crew
        new = {i: places for i, places in {**ahead, **due}.items() if not crew.has(i, places)}
        if new:
            self._give_groups(crew, new, due)
        for i in sorted(due):
            if not crew.has(i, due[i]):
                crew.give_frame(i, self._get(i), due[i])
        shown = {i: crew.shown_by(i) for i in due}
        self._cursor.may_share &= not crew.found_damage
        return {i: fill(due[i], partial(self.write, i)) if at is None else at for i, at in shown.items()}

    def _give_groups(self, crew: Crew, new: Mapping[int, Places], due: Mapping[int, Places]) -> None:
        """Give what is due and at hand, and groups of pictures: of those that are not due yet, some."""
        own, groups = self._cursor.shares(new, crew.busy)
        for i in own:
            if i in due:
                crew.give_frame(i, self._get(i), due[i])
        try:
            for span in groups:
                is_due = not due.keys().isdisjoint(span.frames)
                if not crew.give_group(partial(self._cursor.read_group, span), new, wait=is_due):
                    break
        except LostPlaceError:
            self._cursor.may_share = False

    def _get(self, frame_index: int) -> tuple[int, Any] | None:
        shown = self._cursor.get(frame_index)
        if self.on_device and (shown is None or shown[0] != frame_index):
            # whatever the card could not do, the processor may: the rest of the clip is its own
            self._cursor.close()
            self._cursor = FrameCursor(self._descriptor, self._index, self._limits)
            self._cursor.want(self._wanted)
            shown = self._cursor.get(frame_index)
        if shown is not None:
            self.cost_bytes = self._cost_bytes(shown[1].width, shown[1].height)
        return shown

    def _convert(self, converter: Converter, shown: tuple[int, Any], *outs: NDArray[np.uint8]) -> int:
        frame_index, frame = shown
        aspect, orientation = self._cursor.shapes.of_frame(frame), Orientations.of(frame)
        for out in outs:
            converter.write(frame, out, aspect, orientation)
        return frame_index

    def _let_crew_go(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def close(self) -> None:
        self._let_crew_go()
        self._cursor.close()
        if self.cost_bytes > _LARGE_BYTES:
            gc.collect()  # PyAV's streams and containers hold each other, and a decoder its picture


def write_all(writer: FrameWriter, due: Mapping[int, Places], ahead: Mapping[int, Places]) -> dict[int, int]:
    """Write frames into all of their places; return by their index which frame each shows, -1 for none.

    Those ``ahead`` will be due next, and threads that have nothing else to do may begin with them.
    """
    if isinstance(writer, AvWriter) and (writer.threads > 1 or writer.has_crew):
        return writer.write_side_by_side(due, ahead)
    return {i: fill(due[i], partial(writer.write, i)) for i in sorted(due)}


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
