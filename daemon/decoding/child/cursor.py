"""The frames of one clip by their index, decoded forward: each group of pictures once while the indices rise."""

import os
from collections import deque
from collections.abc import Collection
from typing import Any

from daemon.decoding.child.stream.decoder import DamageError, decode_packet, decode_undamaged
from daemon.decoding.child.stream.groups import Group, GroupDecoder, Span, are_worth_it, spans_of
from daemon.decoding.child.stream.opened import OpenStream
from daemon.decoding.child.stream.place import LostPlaceError, PacketPlace
from daemon.decoding.child.stream.wanted import Wanted
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex

_SKIP_PACKETS = 8  # fewer packets than this are decoded rather than jumped over: a flush costs about as much
_EVERY_PACKET = 2**62
_STEPS_BACK = 2  # groups before its own in which the frame on screen before a missing one is looked for
_MAX_UNKNOWN = 16  # so many frames at times that no packet named, and the packets' times are not the frames'
_FEW_PACKETS = 16  # of a group, which another decoder decodes once more rather than wait

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
        self._wanted = Wanted(index)
        self._careful = index.counted  # decode every frame, so that the one before a missing frame is at hand
        self._may_seek = not index.counted
        self._nothing_before = 0  # from the clip's first packet on, no frame with a lower index comes out
        self.decoded = 0  # frames that came out of the decoder
        self.fed = 0  # packets that went into it
        self.unknown = 0  # frames with a time stamp that no packet promised
        self._disordered = 0  # frames with a time stamp before that of the frame they came after
        self._may_thread = True  # several threads at once, which see the damage of a clip too late
        self.may_share = True  # groups with other decoders, which know nothing to do about damage
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
        self._wanted = Wanted(self._index, frame_indices)
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
        self._may_thread &= not isinstance(error, DamageError)
        self._may_seek &= isinstance(error, DamageError)
        self.may_share = False
        self._reopen()

    def _get(self, frame_index: int) -> Shown | None:
        if frame_index < self._nothing_before:
            return None
        shown = self._advance(frame_index)
        if shown is not None:
            return shown
        if self._careful and not self._is_emptied and (before := self._last_before(frame_index)) is not None:
            return before
        self.may_share = False
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

    def shares(self, frame_indices: Collection[int], busy: int) -> tuple[list[int], list[Span]]:
        """Return the frames that this place has or is about to have, and the groups that other decoders may decode.

        ``busy`` others decode already. A group from which more will be asked for is none of these.
        """
        own = {i for span in spans_of(self._index, frame_indices) for i in span.frames if self._comes_to(i, span)}
        then = self._wanted.group_after(max(frame_indices))
        others = [span for span in spans_of(self._index, set(frame_indices) - own) if span.start != then]
        may_share = self.may_share and self._may_empty and self._opened.is_small
        packet_bytes = os.fstat(self._descriptor).st_size / len(self._index.pts)
        is_worth_it = may_share and are_worth_it(others, packet_bytes, busy, self._asked_threads)
        return sorted(own), others if is_worth_it else []

    def _comes_to(self, frame_index: int, span: Span) -> bool:
        had = [shown[0] for shown in (self._held, self._before, *self._queue) if shown is not None]
        if self._held is None or self._is_emptied or self._place.decode_index < span.start + _FEW_PACKETS:
            return frame_index in had
        return self._index.decode_start(self._held[0]) == span.start

    def read_group(self, span: Span) -> Group:
        """Return a group's packets for another decoder; this one is empty behind them.

        Raises :class:`LostPlaceError` where they can't be found.
        """
        self._forget()
        self._is_emptied = True
        packets = deque[tuple[Any, bool]]()
        for packet in self._place.group(span.start, span.last):
            is_wanted = self._wanted.is_shown_at(packet.pts)
            if self._careful or self._av1 is None or not self._av1.is_unreferenced(memoryview(packet)) or is_wanted:
                packets.append((packet, is_wanted))
        return Group(packets, {int(self._index.sorted_pts[i]): i for i in span.frames})

    def group_decoder(self) -> GroupDecoder:
        """Return one more decoder, for whole groups."""
        return self._opened.group_decoder(careful=self._careful)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the frame that came out last, as it is stored; nothing by nothing before the first."""
        return (self._held[1].width, self._held[1].height) if self._held is not None else (0, 0)

    def _decode_everything(self) -> None:
        self._careful, self._is_skipping = True, False
        self._decoder.skip_frame = "DEFAULT"

    def close(self) -> None:
        """Close the container; the descriptor stays open."""
        self._forget()
        self._place.close()

    def _open(self, opened: tuple[Any, Any] | None = None) -> None:
        self._forget()
        if self._index.counted or not self._may_thread:
            self._asked_threads = 1
        self._opened = OpenStream(
            self._descriptor, self._limits, self._asked_threads, on_device=self.on_device, opened=opened
        )
        self.on_device, self._threads = self._opened.on_device, self._opened.threads
        self._asked_threads = self._threads
        self._decoder, self._av1, self._is_skipping = self._opened.decoder, self._opened.av1, False
        self._may_empty = self._opened.has_frames_apart and not self._index.counted
        self._careful = self._careful or not (self._opened.may_skip or self._av1 is not None)
        self.shapes, self._orientations = self._opened.shapes, self._opened.orientations()
        self._place = PacketPlace(self._opened.container, self._opened.stream, self._index, may_seek=self._may_seek)

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
        start = self._wanted.group_after(frame_index)
        return (
            start is None
            or start >= max(self._place.decode_index, int(self._index.order[frame_index]) + 1) + self._threads - 1
        )

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
            self.fed += packet is not None
            self._take((decode_packet if self._threads == 1 else decode_undamaged)(self._decoder, packet))
            if self._held is None and not self._queue:
                break  # let the caller look at the frames without a promise
        if self._queue:
            self._before, self._held = self._held, self._queue.popleft()
            return True
        return not self._finished

    def _is_needed(self, packet: Any) -> bool:
        """Tell the decoder whether a packet's frame will be shown; return whether it has to see the packet at all."""
        is_wanted = self._wanted.is_shown_at(packet.pts)
        if self._av1 is not None:
            return not self._av1.is_unreferenced(memoryview(packet)) or is_wanted
        if is_wanted is self._is_skipping:
            self._is_skipping = not is_wanted
            self._decoder.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        return True

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            self.decoded += 1
            self._orientations.note(frame)
            newest = self._queue[-1] if self._queue else self._held
            likely = newest[0] + 1 if newest else 0
            frame_index = self._index.frame_at(frame.pts, likely) if frame.pts is not None else -1
            self.unknown += frame_index < 0
            if newest is not None and 0 <= frame_index <= newest[0]:
                self._disordered += 1
            elif frame_index >= 0:
                self._queue.append((frame_index, frame))

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
