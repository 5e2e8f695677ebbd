"""The frames of one clip by their index, decoded forward: each group of pictures once while the indices rise."""

from collections import deque
from collections.abc import Collection
from typing import Any

from daemon.decoding.child.pixels import Orientation, orientation_of
from daemon.decoding.child.pyav import (
    decode_packet,
    open_on_device,
    open_video,
    packets_of,
    sample_aspect_of,
    start_decoder,
)
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex

_SKIP_PACKETS = 8  # fewer packets than this are decoded rather than jumped over: a flush costs about as much
_SEEK_PACKETS = 512  # so many packets are read over (2 to 4 ms) before asking the container's own index
_STEPS_BACK = 2  # groups before its own in which the frame on screen before a missing one is looked for
_MAX_UNKNOWN = 16  # so many frames at times that no packet named, and the packets' times are not the frames'

# Decoders that leave out frames that nothing refers to, packet by packet. Others decide once (dav1d) or never.
_SKIPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
_TURNING_CODECS = ("h264", "hevc")

Shown = tuple[int, Any]  # a frame's index and the frame


class _LostPlaceError(Exception):
    """The packets read are not the ones of the index."""


class FrameCursor:
    """A place in a clip. It owns a container on the descriptor; :meth:`close` gives the container back.

    :meth:`get` is cheapest in rising order: what lies between two frames is decoded only where the second needs it.
    """

    def __init__(
        self, descriptor: int, index: PacketIndex, limits: MediaLimits, threads: int = 1, *, on_device: bool = False
    ) -> None:
        self._descriptor, self._index, self._limits, self._threads = descriptor, index, limits, threads
        self.on_device = on_device  # whether a graphics card decodes; False again where it can't
        self._wanted: frozenset[int] = frozenset()
        self._careful = index.counted  # decode every frame, so that the one before a missing frame is at hand
        self._may_seek = not index.counted
        self._nothing_before = 0  # from the clip's first packet on, no frame with a lower index comes out
        self.decoded = 0  # frames that came out of the decoder
        self.unknown = 0  # frames with a time stamp that no packet promised
        self._orientation = Orientation()  # that the last group of pictures began with
        self._degrees = 0  # the same, as far as an angle says it
        self._disordered = 0  # frames with a time stamp before that of the frame they came after
        self._open()

    def want(self, frame_indices: Collection[int]) -> None:
        """Name the frames that will be asked for next: others that nothing refers to need no decoding."""
        self._wanted = frozenset(frame_indices)

    def first(self, look_at: int = 1) -> Shown | None:
        """Return the first frame that comes out; None when none does, or ``look_at`` come at times not promised."""
        self._decode_everything()
        first: Shown | None = None
        while (first is None or self.decoded < look_at) and self.unknown < _MAX_UNKNOWN and self._pull():
            first = first or self._held
        return None if self._disordered else first

    def get(self, frame_index: int) -> Shown | None:
        """Return frame ``frame_index``, or the one on screen before it where the decoder does not give it, or None."""
        try:
            return self._get(frame_index)
        except _LostPlaceError:  # after a seek, the container gave other packets than in the first pass
            self._may_seek = False
            self._reopen()
            return self._get(frame_index)

    def _get(self, frame_index: int) -> Shown | None:
        if frame_index < self._nothing_before:
            return None
        shown = self._advance(frame_index)
        if shown is not None:
            return shown
        if self._careful and (before := self._last_before(frame_index)) is not None:
            return before
        self._decode_everything()
        for steps_back in range(_STEPS_BACK + 1):
            start = self._index.decode_start(frame_index, steps_back=steps_back)
            self._jump(start)
            shown = self._pull_until(frame_index) or self._last_before(frame_index)
            if shown is not None:
                return shown
            if start == 0:
                self._nothing_before = frame_index if self._held is None else self._held[0]
                break
        return None

    def _decode_everything(self) -> None:
        self._careful = True
        self._decoder.skip_frame = "DEFAULT"

    def sample_aspect(self, frame: Any) -> Any:
        """Return the shape of a frame's pixels, width to height; None where nothing says it."""
        return sample_aspect_of(self._container, self._stream, frame)

    def orientation(self, frame: Any) -> Orientation:
        """Return how a frame is turned: a message in H.264 or HEVC stands at its group's start and holds for all."""
        noted = frame.opaque.orientation if frame.opaque else None
        return noted or orientation_of(frame)

    def close(self) -> None:
        """Close the container; the descriptor stays open."""
        self._forget()
        self._container.close()

    def _open(self) -> None:
        self._forget()
        self._container, self._stream = open_video(self._descriptor, self._limits)
        if self.on_device:
            on_device = open_on_device(self._descriptor, self._limits, self._stream)
            self._container.close()
            self._container, self._stream = on_device or open_video(self._descriptor, self._limits)
            self.on_device = on_device is not None
        self._decoder = start_decoder(self._container, self._stream, self._limits, self._threads)
        self._careful = self._careful or self._stream.codec.canonical_name not in _SKIPPING_CODECS
        self._packets = packets_of(self._container, self._stream)
        self._pushed_back: Any = None
        self._decode_index = 0  # of the next packet to read
        self._has_sought = False  # then each packet is held to the index

    def _forget(self) -> None:
        self._queue: deque[Shown] = deque()
        self._held: Shown | None = None
        self._before: Shown | None = None
        self._finished = False  # the decoder has been emptied

    def _advance(self, frame_index: int) -> Shown | None:
        """Go forward to a frame when it lies ahead, back to its group's start when it lies behind."""
        for shown in (self._held, self._before):
            if shown is not None and shown[0] == frame_index:
                return shown
        if self._held is not None and self._held[0] > frame_index:
            if self._careful and self._last_before(frame_index) is not None:
                return None  # it was passed, and the decoder did not give it
            self._jump(self._index.decode_start(frame_index))
        elif self._index.decode_start(frame_index) > self._decode_index + _SKIP_PACKETS:
            self._jump(self._index.decode_start(frame_index))
        return self._pull_until(frame_index)

    def _last_before(self, frame_index: int) -> Shown | None:
        for shown in (self._held, self._before):
            if shown is not None and shown[0] < frame_index:
                return shown
        return None

    def _pull_until(self, frame_index: int) -> Shown | None:
        """Decode until the frame or a later one comes out, or the clip ends; return the frame itself or None."""
        while self._held is None or self._held[0] < frame_index:
            if not self._pull():
                return None
        return self._held if self._held[0] == frame_index else None

    def _pull(self) -> bool:
        """Hold the next frame that comes out, or nothing new from one more packet; False at the end."""
        while not self._queue and not self._finished:
            packet = self._read()
            if packet is None:
                self._finished = True
            elif not self._careful:
                self._decoder.skip_frame = "DEFAULT" if self._is_wanted(packet) else "NONREF"
            self._take(decode_packet(self._decoder, packet))
            if self._held is None and not self._queue:
                break  # let the caller look at the frames without a promise
        if self._queue:
            self._before, self._held = self._held, self._queue.popleft()
            return True
        return not self._finished

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            self.decoded += 1
            self._note_orientation(frame)
            frame_index = self._index.frame_at(frame.pts) if frame.pts is not None else -1
            self.unknown += frame_index < 0
            newest = self._queue[-1] if self._queue else self._held
            if newest is not None and 0 <= frame_index <= newest[0]:
                self._disordered += 1
            elif frame_index >= 0:
                self._queue.append((frame_index, frame))

    def _note_orientation(self, frame: Any) -> None:
        if self._stream.codec.canonical_name not in _TURNING_CODECS or not frame.opaque:
            return
        # PyAV's side data and its frame hold each other, and a picture that only the collector frees is not used
        # again by the decoder: side data is asked for where it can say something new.
        degrees = frame.rotation
        if frame.key_frame or degrees not in (0, self._degrees):
            own = orientation_of(frame)
            if frame.key_frame or own != Orientation():
                self._orientation, self._degrees = own, degrees
        frame.opaque.orientation = self._orientation

    def _is_wanted(self, packet: Any) -> bool:
        frame_index = self._index.frame_at(packet.pts) if packet.pts is not None else -1
        return frame_index < 0 or frame_index in self._wanted

    def _read(self) -> Any:
        """Return the next packet, None at the end."""
        packet, self._pushed_back = self._pushed_back, None
        packet = packet or next(self._packets, None)
        if packet is None or self._decode_index >= len(self._index.pts):
            return None
        if self._index.counted:  # the time is the index's: the decoder hands it on from the packet to its frame
            packet.pts = packet.dts = int(self._index.pts[self._decode_index])
        if self._has_sought and packet.pts is not None and packet.pts != self._index.pts[self._decode_index]:
            raise _LostPlaceError
        self._decode_index += 1
        return packet

    def _jump(self, decode_index: int) -> None:
        """Go to a packet with an empty decoder: by reading on when it is near ahead, else by the container's index."""
        distance = decode_index - self._decode_index
        try:
            if not 0 <= distance <= _SEEK_PACKETS:
                self._seek(decode_index)
            self._skip_to(decode_index)
        except _LostPlaceError:
            self._reopen()
            self._skip_to(decode_index)
        self._decoder.flush_buffers()
        self._forget()

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _skip_to(self, decode_index: int) -> None:
        while self._decode_index < decode_index and self._read() is not None:
            pass

    def _seek(self, decode_index: int) -> None:
        """Ask the container for a key frame at or before a packet, and find out by its time stamp where that is."""
        if not self._may_seek or decode_index == 0:
            raise _LostPlaceError
        self._has_sought = True
        ticks = min(int(self._index.dts[decode_index]), int(self._index.pts[decode_index]))
        if ticks < -(2**62):
            ticks = int(self._index.pts[decode_index])
        try:
            self._container.seek(ticks, stream=self._stream, backward=True)
        except Exception:
            raise _LostPlaceError from None
        self._packets = packets_of(self._container, self._stream)
        for packet in self._packets:
            frame_index = self._index.frame_at(packet.pts) if packet.pts is not None else -1
            if frame_index >= 0:
                self._pushed_back, self._decode_index = packet, int(self._index.order[frame_index])
                break
        if self._pushed_back is None or self._decode_index > decode_index:
            raise _LostPlaceError
