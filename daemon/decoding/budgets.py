"""What decoding may take: bytes of frames, or of the indices of clips, and a clip's processor time."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from connectors.errors import Poison, Reason

_WALL_FOR_CPU = 4  # a child that sleeps instead of answering pays for it too, on a busy machine a quarter
_BYTES_A_MINUTE = 16 * 2**20  # before the length of a clip is known, its size stands for it


class ByteBudget:
    """Grants reservations in the order in which they were asked for. For one event loop.

    A reservation is granted whole or waits. Whoever waits may hold windows that are decoded, and these come back with
    the engine's answer whether or not more is granted, so the first in line is always served.
    """

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes <= 0:
            raise ValueError(f"no frames fit into {limit_bytes} bytes")
        self.limit_bytes, self.held_bytes = limit_bytes, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_reserve(self, size_bytes: int) -> bool:
        """Take the bytes now, or return False when they are not free or others wait."""
        if self._waiting or self.held_bytes + size_bytes > self.limit_bytes:
            return False
        self.held_bytes += size_bytes
        return True

    async def reserve(self, size_bytes: int) -> None:
        """Take the bytes, after those who asked before; ``ValueError`` when they can never be free."""
        if size_bytes > self.limit_bytes:
            raise ValueError(f"{size_bytes:,} bytes are more than may be held at once")
        if self.try_reserve(size_bytes):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size_bytes)
            elif (size_bytes, granted) in self._waiting:
                self._waiting.remove((size_bytes, granted))
                self._grant()
            raise

    def release(self, size_bytes: int) -> None:
        """Give bytes back."""
        self.held_bytes -= size_bytes
        if self.held_bytes < 0:
            raise ValueError("more bytes were given back than were taken")
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size_bytes, granted = self._waiting[0]
            if not granted.done():
                if self.held_bytes + size_bytes > self.limit_bytes:
                    return
                self.held_bytes += size_bytes
                granted.set_result(None)
            self._waiting.popleft()


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far, 0 when it is gone or there is none."""
    try:
        return time.clock_gettime(~pid << 3 | 2) if pid else 0.0  # the name that clock_getcpuclockid(3) makes of it
    except OSError:
        return 0.0


@dataclass(slots=True)
class DecodeTime:
    """A clip's account of processor time, as the kernel counts it: no decoder can deny what it used.

    ``limit_s`` is what it may use; both are seconds.
    """

    limit_s: float
    used_s: float = 0.0

    @classmethod
    def of_size(cls, size_bytes: int, s_per_minute: float) -> "DecodeTime":
        """Return the account of a clip whose length is not known yet."""
        return cls(s_per_minute * (1 + size_bytes / _BYTES_A_MINUTE))

    def grant(self, length_s: float, s_per_minute: float) -> None:
        """Allow what a clip of this length may use from now on; a short one has a minute's."""
        self.limit_s = self.used_s + s_per_minute * max(1.0, length_s / 60)

    def check(self, running_s: float = 0.0) -> None:
        """Raise :class:`Poison` when the clip has used up its time, that of a request which runs included."""
        used_s = self.used_s + running_s
        if used_s > self.limit_s:
            detail = f"decoding it took {used_s:.0f} s of processor time, and {self.limit_s:.0f} s are allowed"
            raise Poison(Reason.DECODE_DEADLINE, f"{detail} by limits.decode_s_per_clip_minute")


class Meter:
    """The time that one request takes in a child."""

    def __init__(self, pid: int) -> None:
        self._pid, self._processor_s, self._wall_s = pid, processor_s(pid), time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds of processor time so far, or a share of the time on the clock where that is more."""
        wall_s = time.monotonic() - self._wall_s
        return max(processor_s(self._pid) - self._processor_s, wall_s / _WALL_FOR_CPU)
