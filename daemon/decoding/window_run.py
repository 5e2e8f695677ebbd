"""The windows of one clip between being asked for and being taken: their memory, and the request to fill it."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from connectors.errors import Poison, Reason
from daemon.decoding.clip_plan import ClipPlan, read_shown
from daemon.decoding.protocol import TURN_S, Decode, Decoded
from daemon.decoding.window_memory import WindowMemory
from daemon.memory_file import MemoryFile
from daemon.windows import FrameSet, Window

_LARGE_BYTES = 2**20  # a window up to this size is taken to be decoded in no time
WINDOWS_AHEAD = 6  # decoded and not yet taken: enough to keep an engine fed, little enough to hold in memory


@dataclass(frozen=True, slots=True)
class UnreadableWindow:
    """A window without one readable frame, with readable windows after it."""

    window: Window
    detail: str


def check_fits(plan: ClipPlan, limit_bytes: int, first: int = 0) -> None:
    """Refuse windows, from ``first`` on, that so many bytes never hold: those that overlap are held together."""
    if WINDOWS_AHEAD * plan.windows.most_frames * plan.largest_frame_bytes <= limit_bytes:
        return
    for at in range(first, len(plan.windows)):
        group = [plan.windows[at], *plan.overlapping(at, at + WINDOWS_AHEAD - 1)]
        need = sum(plan.window_bytes(w) for w in group)
        if need > limit_bytes:
            together = f" and the {len(group) - 1} that overlap it need" if len(group) > 1 else " needs"
            raise Poison(
                Reason.OVER_BUDGET,
                f"window {at}{together} {need:,} bytes of frames at once, and {limit_bytes:,} "
                "of limits.in_flight_bytes are there for frames: show fewer or smaller frames, or raise it",
            )


@dataclass(slots=True, eq=False)
class WindowRun:
    """One pass over a plan's windows, of which ``at`` is decoded next. ``memory`` is where their frames go.

    ``shared`` says whether a descriptor comes with them. ``results`` end with None or an error.
    """

    plan: ClipPlan
    at: int
    memory: WindowMemory
    shared: bool = False
    filling: dict[int, MemoryFile] = field(default_factory=dict)
    results: asyncio.Queue[FrameSet | UnreadableWindow | Exception | None] = field(default_factory=asyncio.Queue)
    unreadable: list[UnreadableWindow] = field(default_factory=list)  # until a readable one follows
    _sent: set[int] = field(default_factory=set)  # windows whose memory the child has
    _asked: int = 0  # the window after the last one that was asked for
    _first: int = field(init=False)
    _child: Hashable = field(init=False)
    _each_ms: float = 0.0  # what the last window took to decode
    _taken: int = 0  # windows that the consumer has asked for
    _has_room: asyncio.Event = field(default_factory=asyncio.Event)
    _is_over: bool = False

    def __post_init__(self) -> None:
        self._first = self.at
        session = self.plan.session
        self._child = session.slot, session.sender  # for whom there is one child at a time
        self.memory.open(self._child)

    @property
    def room(self) -> int:
        """How many windows may be decoded now: what nobody has taken yet is bounded."""
        return WINDOWS_AHEAD - self.results.qsize()

    @property
    def _a_turn(self) -> int:
        """How many windows a child may come to in a turn: no more memory than that need be there."""
        each_ms = self._each_ms
        if not each_ms:
            each_ms = TURN_S * 1000 if self.plan.window_bytes(self.plan.windows[self.at]) > _LARGE_BYTES else 0
        return min(self.room, 1 + int(TURN_S * 1000 / max(each_ms, 1)))

    async def reserve(self) -> None:
        """Wait until the next window may be decoded, and reserve its bytes."""
        while self.room <= 0:
            self._has_room.clear()
            await self._has_room.wait()
        if self.at not in self.filling:
            size_bytes = self.plan.window_bytes(self.plan.windows[self.at])
            self.filling[self.at] = await self.memory.reserve(self._child, size_bytes)

    def request(self, threads: int, is_open: bool) -> tuple[Decode, list[int]]:
        """Return the request for the next window, and for as many after it as there is room for now.

        With them goes the memory of those that overlap the last one, or else of one that follows for each further
        thread: work goes on with these while the last one ends. A child that does not have the clip open gets all.
        """
        plan, windows, end = self.plan, self.plan.windows, self.at + 1
        while end < min(self.at + self._a_turn, len(windows)) and self._reserve_now(windows[end]):
            end += 1
        last = min(self.at, self._first + self._taken) + WINDOWS_AHEAD - 1
        for window in plan.overlapping(end - 1, last) or windows[end : min(last + 1, end + threads - 1)]:
            if not self._reserve_now(window):
                break
        new = [i for i in sorted(self.filling) if not (is_open and i in self._sent)]
        self._sent.update(new)
        self._asked = end
        upcoming = windows[self.at : end - 1 + WINDOWS_AHEAD]
        request = Decode(
            **plan.asked(is_open),
            target=self.at,
            targets=end - self.at,
            windows=tuple(new),
            counts=tuple(len(windows[i].frame_indices) for i in new),
            widths=tuple(plan.size_of(windows[i]).width for i in new),
            heights=tuple(plan.size_of(windows[i]).height for i in new),
            frame_indices=tuple(index for i in new for index in windows[i].frame_indices),
            wanted=tuple(sorted({index for window in upcoming for index in window.frame_indices})),
            threads=threads,
        )
        return request, [self.filling[i].descriptor for i in new]

    def _reserve_now(self, window: Window) -> bool:
        if window.index in self.filling:
            return True
        memory = self.memory.try_reserve(self._child, self.plan.window_bytes(window))
        if memory is not None:
            self.filling[window.index] = memory
        return memory is not None

    def answered(self, decoded: Decoded) -> bool:
        """Take the window that a child has decoded; return whether the next one is due.

        Raises :class:`Poison` where the clip has changed, and :class:`Transient` where the answer makes no sense.
        """
        at, self.at, self._each_ms = self.at, self.at + 1, decoded.decode_ms
        if not self._is_over:
            self.plan.media.check_unchanged()
            window = self._finish(at, read_shown(decoded, self.plan.windows[at], len(self.plan.pts_ns)), decoded)
            if isinstance(window, UnreadableWindow):
                self.unreadable.append(window)
            else:
                for earlier in self.unreadable:
                    self.results.put_nowait(earlier)
                self.unreadable.clear()
                self.results.put_nowait(window)
        return decoded.more and self.at < self._asked

    def _finish(self, at: int, shown: tuple[int, ...], decoded: Decoded) -> FrameSet | UnreadableWindow:
        plan, memory = self.plan, self.filling.pop(at)
        self._sent.discard(at)
        window = plan.windows[at]
        pts_ns = tuple(int(plan.pts_ns[index]) for index in shown if index >= 0)
        is_own = [i == w for i, w in zip(shown, window.frame_indices, strict=True)]
        is_earlier = plan.shows_own and min(pts_ns, default=0) < window.start_ns
        if is_earlier or len(pts_ns) < len(shown) or not (any(is_own) or max(pts_ns) >= window.start_ns):
            self.memory.drop(memory)
            return UnreadableWindow(window, "none of its frames can be decoded")
        size = plan.size_of(window)
        frames = self.memory.lend(self._child, memory).reshape(len(shown), size.height, size.width, 3)
        descriptor = memory.descriptor if self.shared else -1
        return FrameSet(window, frames, pts_ns, is_own.count(False), decoded.decode_ms, descriptor)

    async def take(self) -> FrameSet | UnreadableWindow | None:
        """Return the next window, None after the last one; raise what ended the clip before its time."""
        result = await self.results.get()
        if isinstance(result, Exception):
            raise result
        self._taken += 1
        self._has_room.set()
        return result

    def close(self) -> None:
        """Give back what nobody took; what a child still answers changes nothing."""
        self._is_over = True
        while not self.results.empty():
            left = self.results.get_nowait()
            if isinstance(left, FrameSet):
                self.memory.budget.release(left.frames.nbytes)
        while self.filling:
            self.memory.drop(self.filling.popitem()[1])
        self.memory.close(self._child)
