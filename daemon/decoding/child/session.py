"""A clip inside the decoding child: its index, its place, and the windows that are being filled."""

import gc
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.containers import BEGIN_ANYWHERE
from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.frame_writer import FrameWriter, writer_of
from daemon.decoding.child.packets import PacketReader
from daemon.decoding.child.pictures.assembly import plan_picture
from daemon.decoding.child.pictures.dolby_vision import refuse_without_base_layer
from daemon.decoding.child.pictures.heif import read_heif
from daemon.decoding.child.pixels import Geometry, scaled_geometry
from daemon.decoding.child.truncation import is_truncated
from daemon.decoding.media import HEAD_BYTES, MediaLimits, is_animated_webp
from daemon.decoding.packet_index import PacketIndex, ticks_to_ns
from daemon.decoding.protocol import MAX_SECONDS, Planned
from daemon.frame_look import Look, MaxFrameSize

_MAY_BE_TRUNCATED = (Reason.CORRUPT, Reason.NO_FRAMES, Reason.NO_VIDEO_STREAM, Reason.UNSUPPORTED_CODEC)
_SHARE_FOR_DECODERS = 4  # a quarter of the address space may be taken by decoders that wait for their clip's turn


@dataclass(slots=True)
class OpenWindow:
    """A window that is being filled: ``pending`` maps each frame still missing to the places that show it."""

    frames: NDArray[np.uint8]
    shown: list[int]
    pending: dict[int, list[int]]

    @classmethod
    def open(cls, memory: int, frame_indices: list[int], geometry: Geometry) -> "OpenWindow":
        """Map the memory file (and close its descriptor)."""
        try:
            mapped = mmap.mmap(memory, len(frame_indices) * geometry.frame_bytes)
        finally:
            os.close(memory)
        shape = (len(frame_indices), geometry.height, geometry.width, 3)
        pending: dict[int, list[int]] = {}
        for place, frame_index in enumerate(frame_indices):
            pending.setdefault(frame_index, []).append(place)
        return cls(np.frombuffer(mapped, np.uint8).reshape(shape), [-1] * len(frame_indices), pending)

    def close_gaps(self) -> None:
        """Show the frame before where there is none, else the first one that there is."""
        readable = [place for place, frame_index in enumerate(self.shown) if frame_index >= 0]
        for place, frame_index in enumerate(self.shown):
            if frame_index < 0 and readable:
                source = max((p for p in readable if p < place), default=readable[0])
                self.frames[place], self.shown[place] = self.frames[source], self.shown[source]


class Session:
    """One open clip: its decoder, and the windows that are being filled."""

    def __init__(
        self,
        descriptor: int,
        decoder: str,
        index: PacketIndex,
        geometry: Geometry,
        limits: MediaLimits,
        look: Look | None = None,
    ) -> None:
        self._descriptor, self._decoder, self._index = descriptor, decoder, index
        self._geometry, self._limits, self._look = geometry, limits, look or Look()
        self._windows: dict[int, OpenWindow] = {}
        self._writer: FrameWriter | None = None

    @property
    def cost_bytes(self) -> int:
        """The bytes that its decoder is taken to hold."""
        return self._writer.cost_bytes if self._writer is not None else 0

    @property
    def on_device(self) -> bool:
        """Whether a graphics card decodes it."""
        return self._writer is not None and self._writer.on_device

    def add(self, window: int, memory: int, frame_indices: list[int]) -> None:
        """Take a window's memory file; its frames are written as they pass."""
        self._windows[window] = OpenWindow.open(memory, frame_indices, self._geometry)

    def fill(self, target: int, wanted: list[int]) -> list[int]:
        """Decode until window ``target`` is complete and return the indices of the frames that it shows."""
        writer = self._writer = self._writer or writer_of(
            self._descriptor, self._index, self._limits, self._look, self._decoder
        )
        writer.want(wanted)
        last = max(self._windows[target].pending, default=-1)
        due = {i for window in self._windows.values() for i in window.pending if i <= last}
        for frame_index in sorted(due):
            self._write(writer, frame_index)
        done = self._windows.pop(target)
        done.close_gaps()
        return done.shown

    def _write(self, writer: FrameWriter, frame_index: int) -> None:
        first: NDArray[np.uint8] | None = None
        shown = -1
        for window in self._windows.values():
            for place in window.pending.pop(frame_index, ()):
                if first is None:
                    first = window.frames[place]
                    shown = writer.write(frame_index, first)
                elif shown >= 0:
                    np.copyto(window.frames[place], first)
                window.shown[place] = shown

    def park(self) -> None:
        """Let go of the decoder; the next window opens it again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Let go of everything."""
        self.park()
        self._windows.clear()
        os.close(self._descriptor)


class Sessions:
    """The clips that are open, least recently used first; decoders are parked where they would take too much memory."""

    def __init__(self, memory_bytes: int) -> None:
        self._open: OrderedDict[int, Session] = OrderedDict()
        self._budget_bytes = memory_bytes // _SHARE_FOR_DECODERS

    def open(self, number: int, session: Session) -> None:
        """Take a session under a number that is not in use."""
        self._open[number] = session

    def use(self, number: int) -> Session:
        """Return a session as the most recently used one, after parking others where memory asks for it."""
        self._open.move_to_end(number)
        total = sum(session.cost_bytes for session in self._open.values())
        for other, session in self._open.items():
            if total <= self._budget_bytes or other == number:
                break
            total -= session.cost_bytes
            session.park()
        return self._open[number]

    def forget(self, number: int) -> None:
        """Close a session, if it is open."""
        session = self._open.pop(number, None)
        if session is not None:
            session.close()


def plan(
    descriptor: int, limits: MediaLimits, max_size: MaxFrameSize | None, alive: Callable[[], None]
) -> tuple[Planned, PacketIndex]:
    """Demux a clip, decode its first frame for its size and turning, and return what the parent plans from.

    Where a file is shorter than its container says, whatever is missing counts as truncated.
    """
    picture = read_heif(descriptor)
    if picture is not None:
        return plan_picture(descriptor, picture, limits, max_size)
    try:
        return _plan(descriptor, limits, max_size, alive)
    except Poison as poison:
        size_bytes = os.fstat(descriptor).st_size
        if poison.reason in _MAY_BE_TRUNCATED and is_truncated(descriptor, size_bytes):
            raise Poison(Reason.TRUNCATED, f"truncated at {size_bytes:,} bytes: {poison.detail}") from poison
        if poison.reason == Reason.NO_FRAMES and is_animated_webp(os.pread(descriptor, HEAD_BYTES, 0)):
            raise Poison(Reason.UNSUPPORTED_CODEC, "an animated WebP picture") from poison
        raise


def _plan(
    descriptor: int, limits: MediaLimits, max_size: MaxFrameSize | None, alive: Callable[[], None]
) -> tuple[Planned, PacketIndex]:
    packets = PacketReader(descriptor, limits, alive).read()
    found = _first_frame(descriptor, packets.index, limits)
    if found is None and not packets.index.counted:
        packets = PacketReader(descriptor, limits, alive).read(counted=True)
        found = _first_frame(descriptor, packets.index, limits)
    if found is None:
        raise Poison(Reason.NO_FRAMES, "not one frame of it can be decoded")
    first, width, height, aspect, turned, named = found
    if 0 < limits.shown_pixels < width * height:
        gc.collect()  # as in AvWriter.close
    index = packets.index.without_start(_undecodable_start(packets.index, first, packets.container))
    geometry = scaled_geometry(width, height, aspect, turned, max_size, limits.shown_pixels)
    planned = Planned(
        codec=packets.codec + named,
        container=packets.container,
        width=geometry.width,
        height=geometry.height,
        declared_s=min(max(packets.declared_s, 0.0), MAX_SECONDS),
        truncated=packets.truncated,
        failure=packets.failure,
        media_start_ns=_media_start_ns(index, packets.start_ns),
        **asdict(packets.mended),
    )
    return planned, index


def _media_start_ns(index: PacketIndex, start_ns: int) -> int:
    """Return when the first frame is shown on the container's clock, from where that starts."""
    first_ns = int(ticks_to_ns(index.sorted_pts[:1], index.time_base)[0])
    return min(max(first_ns - start_ns, 0), 2**62)


def _undecodable_start(index: PacketIndex, first_shown: int, container: str) -> int:
    """Return how many leading frames no player shows: those that refer to pictures from before the clip's start.

    A transport stream may begin anywhere; elsewhere they belong to the open group of the first packet. What is missing
    for another reason is damage, and keeps its time.
    """
    if not index.keyframes.any():
        return 0
    first_key, *later = np.flatnonzero(index.keyframes)[:2].tolist()
    begins_anywhere = container in BEGIN_ANYWHERE
    if begins_anywhere and first_shown < min(later, default=len(index)):
        return first_shown  # with intra refresh the picture is whole some frames after the key frame
    return min(first_shown, first_key) if begins_anywhere or index.order[first_key] == 0 else 0


def _first_frame(
    descriptor: int, index: PacketIndex, limits: MediaLimits, look_at: int = 1
) -> tuple[int, int, int, Fraction | None, bool, str] | None:
    """Return index, stored width and height, pixels' aspect, if turned, and kind of the first frame that comes out."""
    cursor = FrameCursor(descriptor, index, limits)
    try:
        shown = cursor.first(look_at)
        if shown is None:
            return None
        limits.check_size(shown[1].width, shown[1].height)
        aspect, turned = cursor.sample_aspect(shown[1]), cursor.orientation(shown[1]).transpose
        return shown[0], shown[1].width, shown[1].height, aspect, turned, refuse_without_base_layer(shown[1])
    finally:
        cursor.close()
