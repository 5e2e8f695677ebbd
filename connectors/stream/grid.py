"""The windows of a stream: half-open spans of the wall clock, counted from the epoch: those of all streams line up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """Window ``index`` is ``[index * stride_ns, index * stride_ns + window_ns)``."""

    window_ns: int
    stride_ns: int

    def span(self, index: int) -> tuple[int, int]:
        """Return when a window begins and ends, in nanoseconds since the epoch."""
        return index * self.stride_ns, index * self.stride_ns + self.window_ns

    def first_from(self, at_ns: int) -> int:
        """Return the first window that begins at this time or later."""
        return -(-at_ns // self.stride_ns)

    def whole_until(self, index: int, until_ns: int) -> int:
        """Return how many windows, from ``index`` on, have ended at this time."""
        return max(0, (until_ns - self.window_ns) // self.stride_ns + 1 - index)
