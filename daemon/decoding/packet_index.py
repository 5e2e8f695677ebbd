"""The index of a clip's packets: when each frame is shown, and where decoding it must begin.

Packets arrive in decoding order, and frames are shown in order of their time stamps. A *decode index* counts packets in
decoding order, a *frame index* counts the frames that are shown in order of presentation; both start at 0. Nothing in
this module knows a decoder.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.fields import TRUTH, Whole, decode, encode
from daemon.decoding.media import MAX_FRAMES

NS_PER_S = 1_000_000_000
KEY, SHOWN = 1, 2  # bits of a packet's flags
_MAX_TICKS = 2**62
_MAX_NS = 2**60  # 36 years; with a time base of 32 bits no product of ticks is larger than 64 bits


@dataclass(frozen=True, slots=True)
class _Facts:
    """The index but for its columns; FFmpeg keeps both parts of a time base in 32 bits."""

    numerator: Annotated[int, Whole(1, 2**31 - 1)]
    denominator: Annotated[int, Whole(1, 2**31 - 1)]
    packets: Annotated[int, Whole(1, MAX_FRAMES)]
    last_ticks: Annotated[int, Whole(1, _MAX_TICKS)]
    counted: Annotated[bool, TRUTH]


_FACTS_BYTES = len(encode(_Facts(1, 1, 1, 1, False)))


def ticks_to_ns(ticks: NDArray[np.int64], time_base: Fraction) -> NDArray[np.int64]:
    """Return ``ticks * time_base`` in whole nanoseconds, rounded down, exact for any clip of sane length."""
    seconds, rest = np.divmod(ticks * time_base.numerator, time_base.denominator)
    return np.asarray(seconds * NS_PER_S + rest * NS_PER_S // time_base.denominator, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The packets of one video stream.

    ``pts`` and ``dts`` are ``int64[P]`` and ``flags`` ``uint8[P]``, in decoding order and in ticks of ``time_base``;
    ``last_ticks`` is how long the last frame is shown. ``counted`` says that these are not the times that the
    container gives its packets, which are then known by their count alone.

    Derived: ``order`` (``int64[F]``, frame index -> decode index), ``sorted_pts`` (``int64[F]``, ticks), ``pts_ns``
    (``int64[F]``, from 0), ``keyframes`` (``bool[F]``) and ``duration_ns``.
    """

    time_base: Fraction
    pts: NDArray[np.int64] = field(repr=False)
    dts: NDArray[np.int64] = field(repr=False)
    flags: NDArray[np.uint8] = field(repr=False)
    last_ticks: int
    counted: bool = False
    order: NDArray[np.int64] = field(init=False, repr=False)
    sorted_pts: NDArray[np.int64] = field(init=False, repr=False)
    pts_ns: NDArray[np.int64] = field(init=False, repr=False)
    keyframes: NDArray[np.bool_] = field(init=False, repr=False)
    duration_ns: int = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.pts) == len(self.dts) == len(self.flags):
            raise ValueError(f"{len(self.pts)=}, {len(self.dts)=} and {len(self.flags)=} differ")
        shown = np.flatnonzero(self.flags & SHOWN)
        if not len(shown) or self.last_ticks <= 0:
            raise ValueError(f"an index has frames and an end: {len(shown)} frames, {self.last_ticks=}")
        order = shown[np.argsort(self.pts[shown], kind="stable")]
        sorted_pts = self.pts[order]
        if len(order) > 1 and not (np.diff(sorted_pts) > 0).all():
            raise ValueError("two frames have the same time stamp")
        if (int(sorted_pts[-1]) - int(sorted_pts[0]) + self.last_ticks) * self.time_base * NS_PER_S > _MAX_NS:
            raise ValueError("time stamps that lie too far apart")
        pts_ns = ticks_to_ns(sorted_pts - sorted_pts[0], self.time_base)
        end = ticks_to_ns(sorted_pts[-1:] - sorted_pts[0] + self.last_ticks, self.time_base)
        derived = {
            "order": order,
            "sorted_pts": sorted_pts,
            "pts_ns": pts_ns,
            "keyframes": (self.flags[order] & KEY).astype(bool),
            "duration_ns": max(int(end[0]), int(pts_ns[-1]) + 1),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.order)

    def frame_at(self, pts: int) -> int:
        """Return the index of the frame shown at ``pts`` ticks, -1 when no packet promised one."""
        frame_index = int(np.searchsorted(self.sorted_pts, pts))
        return frame_index if frame_index < len(self.sorted_pts) and self.sorted_pts[frame_index] == pts else -1

    def decode_start(self, frame_index: int, *, steps_back: int = 0) -> int:
        """Return the decode index of the key frame from which frame ``frame_index`` can be decoded.

        That is the last key frame shown at or before it: a frame shown before its group's key frame (an open group)
        needs the group before. ``steps_back`` goes that many key frames further back.
        """
        keys = np.flatnonzero(self.keyframes)
        at = int(np.searchsorted(keys, frame_index, side="right")) - 1
        while at >= 0 and self.order[keys[at]] > self.order[frame_index]:
            at -= 1
        at -= steps_back
        return int(self.order[keys[at]]) if at >= 0 else 0

    def without_start(self, frame_index: int) -> "PacketIndex":
        """Return the index in which time starts at frame ``frame_index``: those before it are never shown."""
        if frame_index == 0:
            return self
        flags = self.flags.copy()
        flags[self.order[:frame_index]] &= ~np.uint8(SHOWN)
        return PacketIndex(self.time_base, self.pts, self.dts, flags, self.last_ticks, self.counted)

    def to_bytes(self) -> bytes:
        """Return the index as one block of bytes: its facts, then the three columns."""
        facts = _Facts(
            self.time_base.numerator, self.time_base.denominator, len(self.pts), self.last_ticks, self.counted
        )
        parts = (self.pts.astype("<i8"), self.dts.astype("<i8"), self.flags)
        return b"".join((encode(facts), *(part.tobytes() for part in parts)))

    @classmethod
    def from_bytes(cls, block: bytes) -> Self:
        """Return what :meth:`to_bytes` wrote; ``ValueError`` when it is something else."""
        facts = decode(_Facts, block[:_FACTS_BYTES])
        count, at = facts.packets, _FACTS_BYTES
        if len(block) != at + 17 * count:
            raise ValueError(f"{len(block)} bytes do not hold {count} packets")
        pts = np.frombuffer(block, "<i8", count, at)
        dts = np.frombuffer(block, "<i8", count, at + 8 * count)
        flags = np.frombuffer(block, np.uint8, count, at + 16 * count)
        time_base = Fraction(facts.numerator, facts.denominator)
        return cls(time_base, pts, dts, flags, facts.last_ticks, facts.counted)
