"""The wall clock of a stream's packets: the sender's where it says its time, else that of their arrival.

A connection's time stamps and the wall clock differ by an offset. It is moved slowly, so that frames keep their order
and nearly their distance; time stamps that jump, wrap or go backwards get a new one, and that is said.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SECOND_NS = 10**9
_WRAPS_NS = (2**33 * SECOND_NS // 90_000, 2**32 * SECOND_NS // 90_000, 2**32 * 10**6)  # MPEG-TS, RTP, RTMP
_JUMP_NS, _JUMP_IN_BURSTS_NS = 3 * SECOND_NS, 30 * SECOND_NS
_REORDERED_NS = 2 * SECOND_NS  # frames that are decoded after others may be shown so much earlier; key frames never are
_FASTER = 200  # the offset moves by at most a 200th of the time that passes
_STILL_NS = 20_000_000  # arrival is no better known than this
_LOOKED_AT = 64  # stretches of a second over which the earliest arrival counts
_SENDER_LATE_NS, _SENDER_EARLY_NS = 60 * SECOND_NS, 2 * SECOND_NS
_CLOCK_JUMP_NS = 10 * SECOND_NS
_USUAL_INTERVAL_NS = 40_000_000


@dataclass(frozen=True, slots=True)
class Mended:
    """A time that could not be as it was: what was wrong with it, and by how much.

    ``kind`` is ``wrapped``, ``jumped`` or ``backwards`` for time stamps, ``sender_clock_off`` for a sender whose time
    is not believed, ``clock_jumped`` for this machine's clock, ``moved`` for a connection whose clock lies before what
    was recorded.
    """

    kind: str
    by_ns: int


@dataclass
class Timeline:
    """The wall time of one connection's packets, which never comes before ``floor_ns``."""

    in_bursts: bool
    floor_ns: int
    say: Callable[[Mended], None]
    offset_ns: int | None = None
    is_senders: bool = False
    interval_ns: int = _USUAL_INTERVAL_NS
    _shift_ns: int = 0  # what wraps and jumps added to the stream's own time stamps
    _last: tuple[int, int] | None = None  # the latest frame's mended time stamp and when it arrived
    _followed: int | None = None
    _earliest: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_LOOKED_AT))
    _has_refused: bool = False

    def mended(self, media_ns: int, arrived_ns: int, *, is_key: bool = False) -> int:
        """Return a packet's time stamp on a clock without jumps; packets come in the order of decoding."""
        now = media_ns + self._shift_ns
        if self._last is not None:
            now = self._continued(now, *self._last, arrived_ns, 0 if is_key else _REORDERED_NS)
        if self._last is None or now > self._last[0]:
            if self._last is not None and now - self._last[0] < SECOND_NS:
                self.interval_ns = now - self._last[0]
            self._last = (now, arrived_ns)
        self._note_arrival(now, arrived_ns)
        return now

    def _continued(self, now: int, latest: int, before: int, arrived_ns: int, earlier: int) -> int:
        passed, step = max(arrived_ns - before, 0), now - latest
        allowed = passed + (_JUMP_IN_BURSTS_NS if self.in_bursts else _JUMP_NS)
        if -earlier <= step <= allowed:
            return now
        wrap = next((size for size in _WRAPS_NS if -earlier <= step + size <= allowed), None)
        if wrap is not None:
            self._shift_ns += wrap
            self.say(Mended("wrapped", wrap))
            return now + wrap
        due = latest + (self.interval_ns if self.in_bursts else max(passed, self.interval_ns))
        self._shift_ns += due - now
        self.say(Mended("jumped" if step > 0 else "backwards", step))
        return due

    def _note_arrival(self, now: int, arrived_ns: int) -> None:
        stretch, late = now // SECOND_NS, arrived_ns - now
        if self._earliest and self._earliest[-1][0] == stretch:
            self._earliest[-1] = (stretch, min(late, self._earliest[-1][1]))
        else:
            self._earliest.append((stretch, late))

    def wall(self, now: int, sender_offset_ns: int | None) -> int:
        """Return the wall time of a mended time stamp; ``sender_offset_ns`` is the sender's time at time stamp 0."""
        target, is_senders = self._target(sender_offset_ns)
        if self.offset_ns is None:
            self.offset_ns, self.is_senders = target, is_senders
            if (short := self.floor_ns - now - target) > 0:
                self.offset_ns += short
                self.is_senders = is_senders and short <= _STILL_NS
                self.say(Mended("moved", short))
        else:
            self._follow(target, is_senders, now)
        self._followed = max(now, self._followed or now)
        return now + self.offset_ns

    def _target(self, sender_offset_ns: int | None) -> tuple[int, bool]:
        arrival = min(late for _, late in self._earliest)
        if sender_offset_ns is None:
            return arrival, False
        said = sender_offset_ns - self._shift_ns
        if -_SENDER_LATE_NS <= said - arrival <= _SENDER_EARLY_NS:
            return said, True
        if not self._has_refused:
            self._has_refused = True
            self.say(Mended("sender_clock_off", said - arrival))
        return arrival, False

    def _follow(self, target: int, is_senders: bool, now: int) -> None:
        """Move the offset towards its target, as far as the time that passed allows; it jumps only ahead, and far."""
        assert self.offset_ns is not None  # noqa: S101 - the caller's
        off = target - self.offset_ns
        if off > _CLOCK_JUMP_NS:
            self.offset_ns = target
            self.say(Mended("clock_jumped", off))
        elif abs(off) > (0 if is_senders else _STILL_NS):
            most = max(now - (self._followed or now), 0) // _FASTER
            self.offset_ns += max(-most, min(most, off))
        self.is_senders = is_senders and abs(target - self.offset_ns) <= _STILL_NS
