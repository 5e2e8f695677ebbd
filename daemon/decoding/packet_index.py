"""The index of a clip's packets: when each frame is shown, and where decoding it must begin.

Packets arrive in decoding order, and frames are shown in order of their time stamps. A *decode index* counts packets in
decoding order, a *frame index* counts the frames that are shown in order of presentation; both start at 0. Nothing in
this module knows a decoder. How an index crosses the socket is in :mod:`daemon.decoding.index_block`.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
KEY, SHOWN = 1, 2  # bits of a packet's flags
_MAX_NS = 2**60  # 36 years; with a time base of 32 bits no product of ticks is larger than 64 bits


def ticks_to_ns(ticks: NDArray[np.int64], time_base: Fraction) -> NDArray[np.int64]:
    """Return ``ticks * time_base`` in whole nanoseconds, rounded down, exact for any clip of sane length."""
    seconds, rest = np.divmod(ticks * time_base.numerator, time_base.denominator)
    return np.asarray(seconds * NS_PER_S + rest * NS_PER_S // time_base.denominator, dtype=np.int64)


def check_order(ticks: NDArray[np.int64]) -> None:
    """Refuse time stamps of which one is not later than the one before; ``ValueError``."""
    if len(ticks) > 1 and not (ticks[1:] > ticks[:-1]).all():
        raise ValueError("two frames have the same time stamp")


def duration_of(first: int, last: int, last_ticks: int, time_base: Fraction) -> int:
    """Return the nanoseconds from the first frame to the end of the last; ``ValueError`` when they are too many."""
    ns_per_tick = NS_PER_S * time_base
    duration_ns = int((last - first + last_ticks) * ns_per_tick)
    if duration_ns > _MAX_NS:
        raise ValueError("time stamps that lie too far apart")
    return max(duration_ns, int((last - first) * ns_per_tick) + 1)


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The packets of one video stream.

    ``pts`` and ``dts`` are ``int64[P]`` and ``flags`` ``uint8[P]``, in decoding order and in ticks of ``time_base``;
    ``last_ticks`` is how long the last frame is shown. ``counted`` says that these are not the times that the
    container gives its packets, which are then known by their count alone.

    Derived: ``order`` (``int32[F]``, frame index -> decode index), ``sorted_pts`` (``int64[F]``, ticks), ``keys``
    (``int32[K]``, the frame indices of key frames) and ``duration_ns``.
    """

    time_base: Fraction
    pts: NDArray[np.int64] = field(repr=False)
    dts: NDArray[np.int64] = field(repr=False)
    flags: NDArray[np.uint8] = field(repr=False)
    last_ticks: int
    counted: bool = False
    order: NDArray[np.int32] = field(init=False, repr=False)
    sorted_pts: NDArray[np.int64] = field(init=False, repr=False)
    keys: NDArray[np.int32] = field(init=False, repr=False)
    duration_ns: int = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.pts) == len(self.dts) == len(self.flags):
            raise ValueError(f"{len(self.pts)=}, {len(self.dts)=} and {len(self.flags)=} differ")
        shown = np.flatnonzero(self.flags & SHOWN)
        if not len(shown) or self.last_ticks <= 0:
            raise ValueError(f"an index has frames and an end: {len(shown)} frames, {self.last_ticks=}")
        order = shown[np.argsort(self.pts[shown], kind="stable")].astype(np.int32)
        sorted_pts = self.pts[order]
        check_order(sorted_pts)
        derived = {
            "order": order,
            "sorted_pts": sorted_pts,
            "keys": np.flatnonzero(self.flags[order] & KEY).astype(np.int32),
            "duration_ns": duration_of(int(sorted_pts[0]), int(sorted_pts[-1]), self.last_ticks, self.time_base),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def pts_ns(self) -> NDArray[np.int64]:
        """When each frame is shown, ``int64[F]`` from 0, worked out anew each time."""
        return ticks_to_ns(self.sorted_pts - self.sorted_pts[0], self.time_base)

    @property
    def keyframes(self) -> NDArray[np.bool_]:
        """Which frames are key frames, ``bool[F]``, worked out anew each time."""
        found = np.zeros(len(self), np.bool_)
        found[self.keys] = True
        return found

    def frame_at(self, pts: int, likely: int = -1) -> int:
        """Return the index of the frame shown at ``pts`` ticks, soonest if it is the ``likely`` one; -1 for none."""
        if 0 <= likely < len(self.sorted_pts) and self.sorted_pts[likely] == pts:
            return likely
        frame_index = int(self.sorted_pts.searchsorted(pts))
        return frame_index if frame_index < len(self.sorted_pts) and self.sorted_pts[frame_index] == pts else -1

    def decode_start(self, frame_index: int, *, steps_back: int = 0) -> int:
        """Return the decode index of the key frame from which frame ``frame_index`` can be decoded.

        That is the last key frame shown at or before it: a frame shown before its group's key frame (an open group)
        needs the group before. ``steps_back`` goes that many key frames further back.
        """
        at = int(self.keys.searchsorted(np.int32(frame_index), side="right")) - 1
        while at >= 0 and self.order[self.keys[at]] > self.order[frame_index]:
            at -= 1
        at -= steps_back
        return int(self.order[self.keys[at]]) if at >= 0 else 0

    def without_start(self, frame_index: int) -> "PacketIndex":
        """Return the index in which time starts at frame ``frame_index``: those before it are never shown."""
        if frame_index == 0:
            return self
        flags = self.flags.copy()
        flags[self.order[:frame_index]] &= ~np.uint8(SHOWN)
        return PacketIndex(self.time_base, self.pts, self.dts, flags, self.last_ticks, self.counted)
