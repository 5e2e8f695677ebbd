"""The times of a clip's frames where its packets do not state them: jumps of the clock closed, missing stamps filled.

A joined recording, a clock that was set or one that wrapped makes time stamps jump. They are mended by the rule of the
ffmpeg command (``-dts_delta_threshold``): in formats whose clock may jump, a step back, or ahead by more than 10 s,
counts as no time at all. Nothing here knows a decoder; times are ``int64`` ticks, and ``NO_TIME`` stands for none.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NO_TIME = -(2**63)
GAP_S = 10  # ffmpeg's threshold: a longer step ahead is a jump of the clock, not a pause
BACK_S = 0.1  # ffmpeg's tolerance: a shorter step back is the order of decoding
_STEPS_A_SPLICE = 100  # packets for each small step back: more of these are jitter, not cuts
_MOST_JUMPS = 10_000  # of one clip; a clock that jumps more often is no clock

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mended:
    """How often each kind of fault in a clip's times was mended."""

    jumps_back: int = 0
    jumps_ahead: int = 0
    filled: int = 0  # frames whose time comes from their neighbours
    reordered: bool = False  # the decoder's order stands, because the packets state none
    by_rate: bool = False  # no packet has a time: frames follow each other at the stream's rate
    held: bool = False  # the last picture stays as long as the sound

    def __bool__(self) -> bool:
        return self != Mended()

    def in_words(self) -> list[str]:
        """Return a line for each kind."""
        lines = {
            f"{self.jumps_back} jump(s) of the clock back": self.jumps_back,
            f"{self.jumps_ahead} jump(s) of the clock ahead by more than {GAP_S} s": self.jumps_ahead,
            f"{self.filled} frame(s) without a time of their own, which have their neighbours'": self.filled,
            "the order of frames, which is the decoder's: the container has decoding times alone": self.reordered,
            "all times, which follow the frame rate: the stream has none": self.by_rate,
            "the last picture's length, which is the sound's": self.held,
        }
        return [line for line, is_so in lines.items() if is_so]


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """The time stamps of a clip's packets in decoding order, ``int64[P]``, and which of them are key frames or shown.

    ``frame_ticks`` is the usual length of a frame and ``ticks_per_s`` the clock's.
    """

    pts: Ticks = field(repr=False)
    dts: Ticks = field(repr=False)
    is_key: NDArray[np.bool_] = field(repr=False)
    is_shown: NDArray[np.bool_] = field(repr=False)
    frame_ticks: int
    ticks_per_s: float

    def jumps(self) -> tuple[NDArray[np.int64], Ticks]:
        """Return where the decoding clock jumps, and the steps there, beyond what the packets between took."""
        known = np.flatnonzero(self.dts != NO_TIME)
        steps = np.diff(self.dts[known])
        back = steps < -self._tolerance(steps)
        ahead = steps > GAP_S * self.ticks_per_s + self.frame_ticks
        at = np.flatnonzero(back | ahead)
        between = (np.diff(known) - 1) * self.frame_ticks
        return known[1:][at], (steps - between)[at]

    def _tolerance(self, steps: Ticks) -> float:
        """Return how far the decoding clock may step back before that is a jump: less where it hardly ever does."""
        half_a_frame = self.frame_ticks / 2
        splices = int((steps < -half_a_frame).sum())
        return half_a_frame if splices <= max(1, len(steps) // _STEPS_A_SPLICE) else BACK_S * self.ticks_per_s

    @property
    def are_ordered(self) -> bool:
        """Whether the decoding times rise, as they must: else those of presentation can't be trusted either."""
        known = self.dts[self.dts != NO_TIME]
        return bool((np.diff(known) >= 0).all())

    def with_all_slots(self) -> "Stamps":
        """Return the stamps with a decoding time for every packet, where any has one: the others lie between."""
        known = np.flatnonzero(self.dts != NO_TIME)
        if not len(known) or len(known) == len(self.dts):
            return self
        known = known[np.append(np.diff(self.dts[known]) > 0, True)]  # of two packets at one time, the later is at it
        places = np.arange(len(self.dts))
        dts = np.rint(np.interp(places, known, self.dts[known].astype(np.float64))).astype(np.int64)
        dts += self.frame_ticks * (np.minimum(places - known[0], 0) + np.maximum(places - known[-1], 0))
        return Stamps(self.pts, dts, self.is_key, self.is_shown, self.frame_ticks, self.ticks_per_s)

    def restarts(self) -> tuple[NDArray[np.int64], Ticks]:
        """Return the key frames before which a clock without decoding times starts again, and the steps back."""
        known = np.flatnonzero((self.pts != NO_TIME) & self.is_shown)
        pts, is_key = self.pts[known], self.is_key[known]
        places, steps = list[int](), list[int]()
        start = 0
        while start < len(pts) and len(places) < _MOST_JUMPS:
            newest = np.maximum.accumulate(pts[start:])
            back = is_key[start:] & (pts[start:] < newest - BACK_S * self.ticks_per_s)
            if not back.any():
                break
            at = int(np.argmax(back))
            places.append(int(known[start + at]))
            steps.append(int(pts[start + at] - newest[at]))
            start += at
        return np.array(places, np.int64), np.array(steps, np.int64)

    def closed(self, places: NDArray[np.int64], steps: Ticks) -> "Stamps":
        """Return the stamps with the clock going on after each jump as if it had not jumped."""
        shift = np.zeros(len(self.pts), np.int64)
        shift[places] = self.frame_ticks - steps
        shift = np.cumsum(shift)
        pts = np.where(self.pts == NO_TIME, NO_TIME, self.pts + shift)
        dts = np.where(self.dts == NO_TIME, NO_TIME, self.dts + shift)
        end = NO_TIME
        parts = zip(np.concatenate(([0], places)), np.concatenate((places, [len(pts)])), strict=True)
        for start, stop in parts:  # parts that reorder their frames by different delays would overlap
            shown = pts[start:stop][self.is_shown[start:stop] & (pts[start:stop] != NO_TIME)]
            if not len(shown):
                continue
            if end != NO_TIME and shown.min() <= end:
                more = end + self.frame_ticks - int(shown.min())
                for column in (pts, dts):
                    column[start:][column[start:] != NO_TIME] += more
                shown = shown + more
            if end != NO_TIME:
                self._straighten(pts, int(start), end, int(shown.min()))
            end = max(end, int(shown.max()))
        return Stamps(pts, dts, self.is_key, self.is_shown, self.frame_ticks, self.ticks_per_s)

    def _straighten(self, pts: Ticks, place: int, last: int, following: int) -> None:
        """Even out the last frame before a jump: FFmpeg may have given it a time stamp from behind the jump."""
        earlier = pts[:place][self.is_shown[:place] & (pts[:place] < last)]
        before = int(earlier.max()) if len(earlier) else NO_TIME
        if before != NO_TIME and abs(following - before - 2 * self.frame_ticks) <= self.frame_ticks // 10:
            pts[:place][pts[:place] == last] = before + self.frame_ticks

    def without_strays(self) -> "Stamps":
        """Return the stamps without those of single packets that lie off a clock which goes on after them."""
        known = np.flatnonzero(self.dts != NO_TIME)
        if len(known) < 3:
            return self
        steps = np.diff(self.dts[known])
        jumps = (steps < -self._tolerance(steps)) | (steps > GAP_S * self.ticks_per_s + self.frame_ticks)
        over_both = steps[:-1] + steps[1:]
        stray = known[1:-1][jumps[:-1] & (over_both > 0) & (over_both < self.ticks_per_s)]
        pts, dts = self.pts.copy(), self.dts.copy()
        pts[stray] = dts[stray] = NO_TIME
        return Stamps(pts, dts, self.is_key, self.is_shown, self.frame_ticks, self.ticks_per_s)


def fill(times: Ticks, slots: Ticks, frame_ticks: int) -> tuple[Ticks, int]:
    """Return rising times for frames in order of presentation, and how many were not what the packets said.

    ``slots`` are the decoding times of the frames' packets: sorted, they are times of presentation but for a delay.
    """
    keep = _rising_most(times)
    if not len(keep):
        return _from_slots(slots, frame_ticks), len(times)
    filled = np.full(len(times), NO_TIME, np.int64)
    filled[keep] = times[keep]
    in_order, has_slots = np.sort(slots), bool((slots != NO_TIME).all())
    for start, stop in _runs(filled == NO_TIME):
        low = int(filled[start - 1]) if start else None
        high = int(filled[stop]) if stop < len(filled) else None
        filled[start:stop] = _between(stop - start, low, high, frame_ticks)
        for known in (stop, start - 1) if has_slots else ():  # with the delay of the frame before, else after
            if 0 <= known < len(filled):
                by_slot = in_order[start:stop] + (filled[known] - in_order[known])
                if _fits(by_slot, low, high):
                    filled[start:stop] = by_slot
    return (filled if (np.diff(filled) > 0).all() else _pushed(filled)), len(times) - len(keep)


def _rising_most(times: Ticks) -> NDArray[np.int64]:
    """Return the places of the longest rising choice among the known times: what lies off it is a stray."""
    known = np.flatnonzero(times != NO_TIME)
    if len(known) < 2 or (np.diff(times[known]) > 0).all():
        return known
    tails, tail_places = list[int](), list[int]()
    before = np.full(len(times), -1, np.int64)
    for place in known.tolist():
        time = int(times[place])
        at = bisect_left(tails, time)
        before[place] = tail_places[at - 1] if at else -1
        tails[at : at + 1], tail_places[at : at + 1] = [time], [place]
    chosen, place = [], tail_places[-1]
    while place >= 0:
        chosen.append(place)
        place = int(before[place])
    return np.array(chosen[::-1], np.int64)


def _from_slots(slots: Ticks, frame_ticks: int) -> Ticks:
    known = np.sort(slots[slots != NO_TIME])
    if len(known) == len(slots) and (np.diff(known) > 0).all():
        return known
    return np.arange(len(slots), dtype=np.int64) * frame_ticks


def _runs(missing: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(np.int8), [0]))))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _fits(times: Ticks, low: int | None, high: int | None) -> bool:
    rises = bool((np.diff(times) > 0).all())
    return rises and (low is None or times[0] > low) and (high is None or times[-1] < high)


def _between(count: int, low: int | None, high: int | None, frame_ticks: int) -> Ticks:
    """Return times spread evenly between two known ones, or at the usual distance before or after one."""
    steps = np.arange(1, count + 1, dtype=np.int64)
    if low is None:
        return (high or 0) - frame_ticks * steps[::-1]
    if high is None:
        return low + frame_ticks * steps
    return low + (high - low) * steps // (count + 1)


def _pushed(times: Ticks) -> Ticks:
    """Return the times with each at least a tick after the one before."""
    ramp = np.arange(len(times), dtype=np.int64)
    return np.maximum.accumulate(times - ramp) + ramp


def goes_on(sound: NDArray[np.float64], start_s: float, end_s: float) -> bool:
    """Return whether the sound plays through a span: a pause of the picture then, and no jump of the clock."""
    inside = sound[(sound > start_s) & (sound < end_s)]
    return len(inside) > 0 and bool((np.diff([start_s, *np.sort(inside), end_s]) < GAP_S).all())
