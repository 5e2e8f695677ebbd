"""The frames of one clip by their index, decoded forward: each group of pictures once while the indices rise."""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection
from typing import Any

from daemon.decoding.child.pixels import Orientation, orientation_of
from daemon.decoding.child.pyav import open_on_device, open_video, start_decoder
from daemon.decoding.child.stream.av1 import Av1Pictures
from daemon.decoding.child.stream.decoder import DamageError, decode_packet, decode_undamaged, sample_aspect_of
from daemon.decoding.child.stream.place import LostPlaceError, PacketPlace
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex

_SKIP_PACKETS = 8  # fewer packets than this are decoded rather than jumped over: a flush costs about as much
_EVERY_PACKET = 2**62
_STEPS_BACK = 2  # groups before its own in which the frame on screen before a missing one is looked for
_MAX_UNKNOWN = 16  # so many frames at times that no packet named, and the packets' times are not the frames'

# Decoders that leave out frames that nothing refers to, packet by packet. Others decide once (dav1d) or never.
_SKIPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
_WHOLE_PACKETS = ("mov", "matroska")  # formats whose packets hold a frame each, and that name the shape of its pixels
_TURNING_CODECS = ("h264", "hevc")

Shown = tuple[int, Any]  # a frame's index and the frame


class FrameCursor:
    """A place in a clip. It owns a container on the descriptor; :meth:`close` gives the container back.

    :meth:`get` is cheapest in rising order: what lies between two frames is decoded only where the second needs it.
    ``opened`` is the container and its stream where they are open, and have been read to the end.
    """

    def __init__(
        self,
        descriptor: int,
        index: PacketIndex,
        limits: MediaLimits,
        threads: int = 1,
        *,
        on_device: bool = False,
        opened: tuple[Any, Any] | None = None,
    ) -> None:
        self._descriptor, self._index, self._limits = descriptor, index, limits
        self._threads = self._asked_threads = threads
        self.on_device = on_device  # whether a graphics card decodes; False again where it can't
        self._wanted, self._wanted_pts = frozenset[int](), frozenset[int]()  # frames, and when they are shown
        self._upcoming: list[int] = []  # the same, sorted
        self._all_shown = len(index) == len(index.pts)
        self._careful = index.counted  # decode every frame, so that the one before a missing frame is at hand
        self._may_seek = not index.counted
        self._nothing_before = 0  # from the clip's first packet on, no frame with a lower index comes out
        self.decoded = 0  # frames that came out of the decoder
        self.fed = 0  # packets that went into it
        self.unknown = 0  # frames with a time stamp that no packet promised
        self._orientation = Orientation()  # that the last group of pictures began with
        self._degrees = 0  # the same, as far as an angle says it
        self._disordered = 0  # frames with a time stamp before that of the frame they came after
        self._may_thread = True  # several threads at once, which see the damage of a clip too late
        self._open(opened)
        if opened is not None:
            try:
                self._place.go_back()
            except LostPlaceError:
                self._reopen()

    def want(self, frame_indices: Collection[int], threads: int = 0) -> None:
        """Name the frames that will be asked for next: others that nothing refers to need no decoding.

        So many ``threads`` decode from the next group of pictures on, where damage does not forbid it; 0 changes none.
        """
        self._wanted, self._upcoming = frozenset(frame_indices), sorted(frame_indices)
        self._wanted_pts = frozenset(self._index.sorted_pts[self._upcoming].tolist())
        self._asked_threads = threads or self._asked_threads

    def first(self) -> Shown | None:
        """Return the first frame that comes out at a time that was promised; None when none does."""
        careful = self._careful
        try:
            return self._first()
        except (DamageError, LostPlaceError) as error:
            self._give_up(error)
            return self._first()
        finally:
            self._careful = careful

    def _first(self) -> Shown | None:
        self._decode_everything()
        first: Shown | None = None
        while first is None and self.unknown < _MAX_UNKNOWN and self._pull():
            first = self._held
        return None if self._disordered else first

    def get(self, frame_index: int) -> Shown | None:
        """Return frame ``frame_index``, or the one on screen before it where the decoder does not give it, or None."""
        for _ in range(2):
            try:
                return self._get(frame_index)
            except (DamageError, LostPlaceError) as error:
                self._give_up(error)
        return self._get(frame_index)

    def _give_up(self, error: Exception) -> None:
        """Go on without what failed: several threads, or after a seek packets that are not those of the first pass."""
        if isinstance(error, DamageError):
            self._may_thread = False
        else:
            self._may_seek = False
        self._reopen()

    def _get(self, frame_index: int) -> Shown | None:
        if frame_index < self._nothing_before:
            return None
        shown = self._advance(frame_index)
        if shown is not None:
            return shown
        if self._careful and not self._is_emptied and (before := self._last_before(frame_index)) is not None:
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

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the frame that came out last, as it is stored; nothing by nothing before the first."""
        return (self._held[1].width, self._held[1].height) if self._held is not None else (0, 0)

    def _decode_everything(self) -> None:
        self._careful, self._is_skipping = True, False
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
        self._place.close()

    def _open(self, opened: tuple[Any, Any] | None = None) -> None:
        self._forget()
        self._container, self._stream = opened or open_video(self._descriptor, self._limits)
        if self.on_device:
            on_device = open_on_device(self._descriptor, self._limits, self._stream)
            self._container.close()
            self._container, self._stream = on_device or open_video(self._descriptor, self._limits)
            self.on_device = on_device is not None
        codec, is_whole = self._stream.codec.canonical_name, self._container.format.name.startswith(_WHOLE_PACKETS)
        self._may_empty = is_whole and not self._index.counted and not self.on_device
        if not self._may_empty or not self._may_thread:
            self._asked_threads = 1
        self._threads = self._asked_threads
        self._decoder = start_decoder(self._container, self._stream, self._limits, self._threads)
        self._is_skipping, self._may_turn = False, codec in _TURNING_CODECS
        self._av1 = Av1Pictures(self._stream.codec_context.extradata) if codec == "av1" and is_whole else None
        self._careful = self._careful or not (codec in _SKIPPING_CODECS or self._av1 is not None)
        self._place = PacketPlace(self._container, self._stream, self._index, may_seek=self._may_seek)

    def _forget(self) -> None:
        self._queue: deque[Shown] = deque()
        self._held: Shown | None = None
        self._before: Shown | None = None
        self._finished = False  # the decoder has been emptied
        self._is_emptied = False  # the same, before the clip's end
        self._last_needed = _EVERY_PACKET  # the packet after which it is emptied

    def _advance(self, frame_index: int) -> Shown | None:
        """Go forward to a frame when it lies ahead, back to its group's start when it lies behind."""
        for shown in (self._held, self._before):
            if shown is not None and shown[0] == frame_index:
                return shown
        if self._held is not None and self._held[0] > frame_index:
            if self._careful and not self._is_emptied and self._last_before(frame_index) is not None:
                return None  # it was passed, and the decoder did not give it
            self._jump(self._index.decode_start(frame_index))
        elif self._is_behind_a_jump(frame_index):
            self._jump(self._index.decode_start(frame_index))
        if not self._is_emptied:
            is_last = self._may_empty and self._is_last_before_a_jump(frame_index)
            self._last_needed = int(self._index.order[frame_index]) if is_last else _EVERY_PACKET
        return self._pull_until(frame_index)

    def _is_behind_a_jump(self, frame_index: int) -> bool:
        if self._is_emptied:
            return all(shown[0] != frame_index for shown in self._queue)
        skip = self._threads - 1 if self._may_empty else _SKIP_PACKETS
        return self._index.decode_start(frame_index) > self._place.decode_index + skip

    def _is_last_before_a_jump(self, frame_index: int) -> bool:
        """Return whether what is wanted next lies in another group: then the decoder need not be fed any further."""
        if frame_index not in self._wanted:
            return False
        at = bisect_right(self._upcoming, frame_index)
        if at == len(self._upcoming):
            return True
        start = self._index.decode_start(self._upcoming[at])
        return start >= max(self._place.decode_index, int(self._index.order[frame_index]) + 1) + self._threads - 1

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
            self._is_emptied = self._place.decode_index > self._last_needed
            packet = None if self._is_emptied else self._place.read()
            if packet is None:
                self._finished = True
            elif not self._careful and not self._is_needed(packet):
                continue
            self._take(self._decode(packet))
            if self._held is None and not self._queue:
                break  # let the caller look at the frames without a promise
        if self._queue:
            self._before, self._held = self._held, self._queue.popleft()
            return True
        return not self._finished

    def _is_needed(self, packet: Any) -> bool:
        """Tell the decoder whether a packet's frame will be shown; return whether it has to see the packet at all."""
        pts = packet.pts
        is_wanted = pts is None or pts in self._wanted_pts or (not self._all_shown and self._index.frame_at(pts) < 0)
        if self._av1 is not None:
            return not self._av1.is_unreferenced(memoryview(packet)) or is_wanted
        if is_wanted is self._is_skipping:
            self._is_skipping = not is_wanted
            self._decoder.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        return True

    def _decode(self, packet: Any | None) -> list[Any]:
        self.fed += packet is not None
        return (decode_packet if self._threads == 1 else decode_undamaged)(self._decoder, packet)

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            self.decoded += 1
            self._note_orientation(frame)
            newest = self._queue[-1] if self._queue else self._held
            likely = newest[0] + 1 if newest else 0
            frame_index = self._index.frame_at(frame.pts, likely) if frame.pts is not None else -1
            self.unknown += frame_index < 0
            if newest is not None and 0 <= frame_index <= newest[0]:
                self._disordered += 1
            elif frame_index >= 0:
                self._queue.append((frame_index, frame))

    def _note_orientation(self, frame: Any) -> None:
        if not self._may_turn or not (note := frame.opaque):
            return
        # PyAV's side data and its frame hold each other, and a picture that only the collector frees is not used
        # again by the decoder: side data is asked for where it can say something new.
        degrees = frame.rotation
        if frame.key_frame or degrees not in (0, self._degrees):
            own = orientation_of(frame)
            if frame.key_frame or own != Orientation():
                self._orientation, self._degrees = own, degrees
        note.orientation = self._orientation

    def _jump(self, decode_index: int) -> None:
        """Go to a packet with an empty decoder."""
        if self._asked_threads != self._threads and self._may_empty and self._may_seek:
            self._reopen()
        try:
            self._place.go_to(decode_index)
        except LostPlaceError:
            self._reopen()
            self._place.read_over(decode_index)
        self._decoder.flush_buffers()
        self._forget()

    def _reopen(self) -> None:
        self.close()
        self._open()
