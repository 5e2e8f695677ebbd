"""The frames of a clip that will be asked for next."""

from bisect import bisect_right
from collections.abc import Collection

from daemon.decoding.packet_index import PacketIndex


class Wanted:
    """Frames by their index, and by when they are shown."""

    def __init__(self, index: PacketIndex, frame_indices: Collection[int] = ()) -> None:
        self._index, self._all_shown = index, len(index) == len(index.pts)
        self._frames, self._sorted = frozenset(frame_indices), sorted(frame_indices)
        self._pts = frozenset(index.sorted_pts[self._sorted].tolist())

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._frames

    def is_shown_at(self, pts: int | None) -> bool:
        """Return whether a packet with this time may hold one of them."""
        return pts is None or pts in self._pts or (not self._all_shown and self._index.frame_at(pts) < 0)

    def group_after(self, frame_index: int) -> int | None:
        """Return the packet from which the first of them after a frame is decoded; None where none follows."""
        at = bisect_right(self._sorted, frame_index)
        return self._index.decode_start(self._sorted[at]) if at < len(self._sorted) else None
