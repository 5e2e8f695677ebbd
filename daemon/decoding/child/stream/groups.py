"""Groups of pictures that several threads decode side by side, a whole group each: no frame of one needs another."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from connectors.errors import Poison
from daemon.decoding.child.stream.decoder import DamageError, Orientations, decode_undamaged
from daemon.decoding.packet_index import PacketIndex

_MOST_BYTES = 2**24  # of a group that is held as packets
_UNEVEN = 1.25  # by how much the largest group may exceed a thread's even share of all


class Span(NamedTuple):
    """The packets of a group, from its key frame to the last that a frame needs, and those frames."""

    start: int
    last: int
    frames: list[int]


@dataclass(frozen=True, slots=True)
class Group:
    """A group's packets, each with whether its frame is wanted, and the frames that are, by their time."""

    packets: deque[tuple[Any, bool]]
    frames: dict[int, int]


def spans_of(index: PacketIndex, frames: Collection[int]) -> list[Span]:
    """Return the groups of frames, in order."""
    groups: dict[int, list[int]] = {}
    for frame in sorted(frames):
        groups.setdefault(index.decode_start(frame), []).append(frame)
    return [Span(start, max(int(index.order[f]) for f in those), those) for start, those in sorted(groups.items())]


def are_worth_it(spans: list[Span], packet_bytes: float, busy: int, threads: int) -> bool:
    """Return whether so many threads that take a group each are done as soon as if they shared each group.

    ``busy`` of them have one; a packet has so many bytes.
    """
    costs = [span.last - span.start + 1 for span in spans]
    if not costs or threads == 1 or max(costs) * packet_bytes > _MOST_BYTES:
        return False
    return busy + _UNEVEN * sum(costs) / max(costs) >= threads


class GroupDecoder:
    """A decoder of whole groups, by one thread. With ``skips`` it is told which frames nobody wants."""

    def __init__(self, decoder: Any, *, skips: bool, may_turn: bool) -> None:
        self._decoder, self._skips, self._may_turn = decoder, skips, may_turn

    def wanted_in(self, group: Group) -> Iterator[tuple[int, Any]]:
        """Yield a group's wanted frames by their index.

        Raises:
            DamageError: something in it is not as it should be, which is for others to make the best of.
        """
        self._decoder.flush_buffers()
        orientations, newest = Orientations(may_turn=self._may_turn), min(group.frames) - 1
        group.packets.append((None, True))
        while group.packets:
            packet, is_wanted = group.packets.popleft()
            if self._skips:
                self._decoder.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            for frame in self._decoded(packet):
                orientations.note(frame)
                if (frame_index := group.frames.get(frame.pts)) is None:
                    continue
                if frame.pts <= newest:
                    raise DamageError
                newest = frame.pts
                yield frame_index, frame

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return decode_undamaged(self._decoder, packet)
        except Poison as poison:  # no memory for several decoders
            raise DamageError from poison
