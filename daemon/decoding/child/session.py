"""A clip inside the decoding child: its index, its place, and the windows that are being filled."""

import gc
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.containers import BEGIN_ANYWHERE
from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.frame_writer import FrameWriter, write_all, writer_of
from daemon.decoding.child.open_window import OpenWindow, Place
from daemon.decoding.child.packets import PacketReader
from daemon.decoding.child.pictures.assembly import plan_picture
from daemon.decoding.child.pictures.dolby_vision import refuse_without_base_layer
from daemon.decoding.child.pictures.heif import read_heif
from daemon.decoding.child.pixels import upright_size
from daemon.decoding.child.shots import ShotFinder
from daemon.decoding.child.stream.decoder import Orientations
from daemon.decoding.child.truncation import is_truncated
from daemon.decoding.media import HEAD_BYTES, MediaLimits, is_animated_webp, is_image
from daemon.decoding.packet_index import PacketIndex, ticks_to_ns
from daemon.decoding.protocol import MAX_SECONDS, Planned
from daemon.frame_look import FrameSize, Look

_MAY_BE_TRUNCATED = (Reason.CORRUPT, Reason.NO_FRAMES, Reason.NO_VIDEO_STREAM, Reason.UNSUPPORTED_CODEC)
_SHARE_FOR_DECODERS = 4  # a quarter of the address space may be taken by decoders that wait for their clip's turn


class Session:
    """One open clip: its decoder, and the windows that are being filled. ``own_size`` is that of its frames.

    ``cursor`` is at the clip's first frame where planning has left one, and belongs to the session from then on.
    """

    def __init__(
        self,
        descriptor: int,
        decoder: str,
        index: PacketIndex,
        own_size: FrameSize,
        limits: MediaLimits,
        look: Look | None = None,
        cursor: FrameCursor | None = None,
    ) -> None:
        self._descriptor, self._decoder, self._index = descriptor, decoder, index
        self._own_size, self._limits, self._look = own_size, limits, look or Look()
        self._windows: dict[int, OpenWindow] = {}
        self._writer = self._new_writer(cursor) if cursor is not None else None
        self._shots: ShotFinder | None = None

    def _new_writer(self, cursor: FrameCursor | None = None) -> FrameWriter:
        return writer_of(self._descriptor, self._index, self._limits, self._look, self._decoder, self._own_size, cursor)

    @property
    def cost_bytes(self) -> int:
        """The bytes that its decoders are taken to hold."""
        return sum(one.cost_bytes for one in (self._writer, self._shots) if one is not None)

    def shots(self, descriptor: int, sensitivity: float, min_ns: int) -> ShotFinder:
        """Return what finds the clip's shots, as far as it has got; a new one reads from ``descriptor``."""
        if self._shots is None:
            self._shots = ShotFinder(descriptor, self._index, self._limits, sensitivity, min_ns)
        else:
            os.close(descriptor)
        return self._shots

    @property
    def on_device(self) -> bool:
        """Whether a graphics card decodes it."""
        return self._writer is not None and self._writer.on_device

    def add(
        self,
        window: int,
        memory: int,
        frame_indices: list[int],
        size: FrameSize | None = None,
        mapped: NDArray[np.uint8] | None = None,
    ) -> None:
        """Take a window's memory file; its frames are written as they pass, scaled to ``size``."""
        self._windows[window] = OpenWindow.of(memory, frame_indices, size or self._own_size, mapped)

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        """Name the frames that the next windows show, and how many threads may decode them."""
        self._writer = self._writer or self._new_writer()
        self._writer.want(frame_indices, threads)

    def fill(self, target: int) -> list[int]:
        """Decode until window ``target`` is complete and return the indices of the frames that it shows."""
        writer = self._writer = self._writer or self._new_writer()
        last = max(self._windows[target].pending, default=-1)
        due: dict[int, list[Place]] = {}
        ahead: dict[int, list[Place]] = {}
        for window in self._windows.values():
            for frame_index, place in window.pending.items():
                (due if frame_index <= last else ahead).setdefault(frame_index, []).append(place)
        for frame_index, shown in write_all(writer, due, ahead).items():
            for window in self._windows.values():
                window.is_written(frame_index, shown)
        return self._windows.pop(target).finish()

    def park(self) -> None:
        """Let go of the decoders; the next window opens them again."""
        if self._shots is not None:
            self._shots.park()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Let go of everything."""
        self.park()
        if self._shots is not None:
            self._shots.close()
        for window in self._windows.values():
            window.close()
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


@dataclass(frozen=True, slots=True)
class OpenClip:
    """A clip that was planned, and the place at its first frame where decoding can go on from there."""

    planned: Planned
    index: PacketIndex
    cursor: FrameCursor | None = None

    def close(self) -> None:
        """Let go of the place."""
        if self.cursor is not None:
            self.cursor.close()


def plan(descriptor: int, limits: MediaLimits, alive: Callable[[], None]) -> tuple[Planned, PacketIndex]:
    """Plan a clip and keep nothing of it open."""
    clip = open_clip(descriptor, limits, alive)
    clip.close()
    return clip.planned, clip.index


def open_clip(descriptor: int, limits: MediaLimits, alive: Callable[[], None], threads: int = 1) -> OpenClip:
    """Demux a clip, decode its first frame for its size and turning, and return what the parent plans from.

    Where a file is shorter than its container says, whatever is missing counts as truncated.
    """
    picture = read_heif(descriptor)
    if picture is not None:
        return OpenClip(*plan_picture(descriptor, picture, limits))
    try:
        return _open(descriptor, limits, alive, threads)
    except Poison as poison:
        size_bytes = os.fstat(descriptor).st_size
        if poison.reason in _MAY_BE_TRUNCATED and is_truncated(descriptor, size_bytes):
            raise Poison(Reason.TRUNCATED, f"truncated at {size_bytes:,} bytes: {poison.detail}") from poison
        if poison.reason == Reason.NO_FRAMES and is_animated_webp(os.pread(descriptor, HEAD_BYTES, 0)):
            raise Poison(Reason.UNSUPPORTED_CODEC, "an animated WebP picture") from poison
        raise


def _open(descriptor: int, limits: MediaLimits, alive: Callable[[], None], threads: int) -> OpenClip:
    reader = PacketReader(descriptor, limits, alive)
    try:
        packets = reader.read()
    except BaseException:
        reader.close()
        raise
    with ExitStack() as until_known:
        cursor = FrameCursor(descriptor, packets.index, limits, threads, opened=reader.opened)
        until_known.callback(cursor.close)
        shown = cursor.first()
        if shown is None and not packets.index.counted:
            until_known.close()
            packets = PacketReader(descriptor, limits, alive).read(counted=True)
            cursor = FrameCursor(descriptor, packets.index, limits, threads)
            until_known.callback(cursor.close)
            shown = cursor.first()
        if shown is None:
            raise Poison(Reason.NO_FRAMES, "not one frame of it can be decoded")
        first, frame = shown
        limits.check_size(frame.width, frame.height)
        aspect, turned = cursor.shapes.of_frame(frame), Orientations.of(frame).transpose
        size = upright_size(frame.width, frame.height, aspect, turned, limits.shown_pixels)
        index = packets.index.without_start(_undecodable_start(packets.index, first, packets.container))
        planned = Planned(
            codec=packets.codec + refuse_without_base_layer(frame),
            container=packets.container,
            width=size.width,
            height=size.height,
            declared_s=min(max(packets.declared_s, 0.0), MAX_SECONDS),
            truncated=packets.truncated,
            failure=packets.failure,
            media_start_ns=_media_start_ns(index, packets.start_ns),
            **asdict(packets.mended),
        )
        if index is packets.index and not is_image(os.pread(descriptor, HEAD_BYTES, 0)):
            until_known.pop_all()
            return OpenClip(planned, index, cursor)
    if 0 < limits.shown_pixels < frame.width * frame.height:
        del frame, shown
        gc.collect()  # as in AvWriter.close
    return OpenClip(planned, index)


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
