"""The block of bytes in which the index of a clip crosses the socket, and what the program reads of it.

Time stamps rise nearly evenly, so what is kept is the steps between them: of each column the smallest step, what all
others exceed it by in multiples of a common unit, and these multiples in as few bytes each as the largest takes. A
clip at a constant rate takes three bytes a packet, or none where every packet is a key frame and shown as it is
decoded, and never more than 17. Nothing is sorted or compared before it is taken apart, in pieces of bounded size.

The program needs the times at which frames are shown, and keeps eight bytes a frame beside the block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.fields import TRUTH, Choice, Data, Whole, decode, encode
from daemon.decoding.media import MAX_FRAMES
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex, check_order, duration_of, ticks_to_ns

TIMES_BYTES = 9  # that each packet takes beside the block: eight for its time, one for whether it is a key frame
_PIECE = 2**16  # packets that are taken apart at once

_Tick = Annotated[int, Whole(-(2**63), 2**63 - 1)]
_Unit = Annotated[int, Whole(1, 2**63 - 1)]
_Width = Annotated[int, Choice((0, 1, 2, 4, 8))]


@dataclass(frozen=True, slots=True)
class _Facts:
    """The index but for its columns: time stamps, how far decoding times lie before them, and flags.

    FFmpeg keeps both parts of a time base in 32 bits. A column's first value follows from ``start`` by its first step.
    """

    numerator: Annotated[int, Whole(1, 2**31 - 1)]
    denominator: Annotated[int, Whole(1, 2**31 - 1)]
    packets: Annotated[int, Whole(1, MAX_FRAMES)]
    last_ticks: Annotated[int, Whole(1, 2**62)]
    counted: Annotated[bool, TRUTH]
    pts_start: _Tick
    pts_step: _Tick
    pts_unit: _Unit
    pts_width: _Width
    lead_start: _Tick
    lead_step: _Tick
    lead_unit: _Unit
    lead_width: _Width
    flags: Annotated[int, Whole(0, 255)]
    flags_width: Annotated[int, Choice((0, 1))]


_FACTS_BYTES = len(encode(_Facts(1, 1, 1, 1, False, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class ClipTimes:
    """When the frames of a clip are shown, ``int64[F]`` from 0, and which are key frames where that was asked for."""

    pts_ns: NDArray[np.int64]
    duration_ns: int
    keyframes: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.pts_ns)


def to_block(index: PacketIndex) -> bytes:
    """Return an index as one block of bytes."""
    pts = index.pts.view(np.uint64)
    pts_facts, pts_column = _column(pts)
    lead_facts, lead_column = _column(pts - index.dts.view(np.uint64))
    same = bool((index.flags == index.flags[0]).all())
    facts = _Facts(
        *(index.time_base.numerator, index.time_base.denominator, len(index.pts), index.last_ticks, index.counted),
        *pts_facts,
        *lead_facts,
        *(int(index.flags[0]), 0 if same else 1),
    )
    return b"".join((encode(facts), pts_column, lead_column, b"" if same else index.flags.tobytes()))


def from_block(block: Data) -> PacketIndex:
    """Return the index that :func:`to_block` wrote; ``ValueError`` when it is something else."""
    reader = _BlockReader(block)
    facts, at = reader.facts, 0
    pts, dts = np.empty(facts.packets, np.int64), np.empty(facts.packets, np.int64)
    flags = np.empty(facts.packets, np.uint8)
    for shown_at, lead, piece in zip(reader.pts(), reader.lead(), reader.flags(), strict=True):
        here = slice(at, at + len(piece))
        pts[here], dts[here], flags[here] = shown_at, shown_at - lead, piece
        at += len(piece)
    return PacketIndex(reader.time_base, pts, dts, flags, facts.last_ticks, facts.counted)


def times_of(block: Data, packets: int, *, keyframes: bool) -> ClipTimes:
    """Return when the frames of a block's clip are shown, in ``TIMES_BYTES`` for each of so many packets.

    ``ValueError`` when it is no block, or one of another number of packets.
    """
    reader = _BlockReader(block)
    if reader.facts.packets != packets:
        raise ValueError(f"an index of {reader.facts.packets} packets instead of {packets}")
    every, count = np.empty(reader.facts.packets, np.int64), 0
    for shown_at, flags in zip(reader.pts(), reader.flags(), strict=True):
        shown = shown_at[(flags & SHOWN).astype(np.bool_)]
        every[count : count + len(shown)] = shown
        count += len(shown)
    if not count:
        raise ValueError("an index without a frame")
    ticks = every[:count]
    ticks.sort()
    check_order(ticks)
    first, last = int(ticks[0]), int(ticks[-1])
    duration_ns = duration_of(first, last, reader.facts.last_ticks, reader.time_base)
    keys = _keys(reader, ticks) if keyframes else None
    for at in range(0, count, _PIECE):
        piece = ticks[at : at + _PIECE]
        piece[:] = ticks_to_ns(piece - first, reader.time_base)
    return ClipTimes(ticks, duration_ns, keys)


def _keys(reader: "_BlockReader", ticks: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros(len(ticks), np.bool_)
    for shown_at, flags in zip(reader.pts(), reader.flags(), strict=True):
        found[np.searchsorted(ticks, shown_at[flags & (KEY | SHOWN) == KEY | SHOWN])] = True
    return found


class _BlockReader:
    """Takes a block apart, piece by piece. All arithmetic is modulo 2**64, so nothing in it can overflow."""

    def __init__(self, block: Data) -> None:
        facts = self.facts = decode(_Facts, block[:_FACTS_BYTES])
        size_bytes = _FACTS_BYTES + facts.packets * (facts.pts_width + facts.lead_width + facts.flags_width)
        if len(block) != size_bytes:
            raise ValueError(f"{len(block)} bytes do not hold {facts.packets} packets")
        self._block, self.time_base = block, Fraction(facts.numerator, facts.denominator)

    def pts(self) -> Iterator[NDArray[np.int64]]:
        facts = self.facts
        return self._values(_FACTS_BYTES, facts.pts_width, facts.pts_start, facts.pts_step, facts.pts_unit)

    def lead(self) -> Iterator[NDArray[np.int64]]:
        facts = self.facts
        at = _FACTS_BYTES + facts.packets * facts.pts_width
        return self._values(at, facts.lead_width, facts.lead_start, facts.lead_step, facts.lead_unit)

    def flags(self) -> Iterator[NDArray[np.uint8]]:
        facts = self.facts
        at = _FACTS_BYTES + facts.packets * (facts.pts_width + facts.lead_width)
        for piece, count in self._pieces(at, facts.flags_width):
            yield np.full(count, facts.flags, np.uint8) if piece is None else piece.astype(np.uint8)

    def _values(self, at: int, width: int, start: int, step: int, unit: int) -> Iterator[NDArray[np.int64]]:
        reached = np.array([start], np.int64).view(np.uint64)
        least = np.array([step], np.int64).view(np.uint64)
        for piece, count in self._pieces(at, width):
            values = np.zeros(count, np.uint64) if piece is None else piece.astype(np.uint64)
            values *= np.uint64(unit)
            values += least
            values[:1] += reached
            np.cumsum(values, out=values)
            reached = values[-1:].copy()
            yield values.view(np.int64)

    def _pieces(self, at: int, width: int) -> Iterator[tuple[NDArray[Any] | None, int]]:
        """Yield a column's numbers, None where it has none, with how many of them there are."""
        for start in range(0, self.facts.packets, _PIECE):
            count = min(_PIECE, self.facts.packets - start)
            yield np.frombuffer(self._block, f"<u{width}", count, at + start * width) if width else None, count


def _column(values: NDArray[np.uint64]) -> tuple[tuple[int, int, int, int], bytes]:
    """Return start, smallest step, unit and width of a column, and its bytes."""
    steps = np.diff(values, prepend=values[:1])
    steps[:1] = steps[1:2] if len(steps) > 1 else 0
    start = (values[:1] - steps[:1]).view(np.int64)
    least = steps.view(np.int64).min()
    steps -= np.array([least]).view(np.uint64)
    unit = int(np.gcd.reduce(steps)) or 1
    if unit >= 2**63:
        unit = 1
    steps //= np.uint64(unit)
    most = int(steps.max())
    width = next(width for width in (0, 1, 2, 4, 8) if most < 256**width)
    return (int(start[0]), int(least), unit, width), steps.astype(f"<u{width}").tobytes() if width else b""
