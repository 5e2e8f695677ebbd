"""The processor time that decoding a clip may take, as the kernel counts it: no decoder can deny what it used."""

import time
from dataclasses import dataclass

from connectors.errors import Poison, Reason

_WALL_FOR_CPU = 4  # a child that sleeps instead of answering pays for it too, on a busy machine a quarter
_BYTES_A_MINUTE = 16 * 2**20  # before the length of a clip is known, its size stands for it


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far, 0 when it is gone or there is none."""
    try:
        return time.clock_gettime(~pid << 3 | 2) if pid else 0.0  # the name that clock_getcpuclockid(3) makes of it
    except OSError:
        return 0.0


@dataclass(slots=True)
class DecodeTime:
    """A clip's account. ``limit_s`` is what it may use; both are seconds of processor time."""

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
