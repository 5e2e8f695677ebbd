"""The last hour of a daemon, a point every ten seconds."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

EVERY_S = 10.0
_POINTS = 360


@dataclass(frozen=True, slots=True)
class Point:
    """How it was at one time; rates are over the minute before."""

    at_ms: int
    windows_per_s: float
    in_engine: int
    slots: int
    waiting: int  # windows that are decoded and have no place in the engine
    lag: int  # clips that wait in the sources


@dataclass
class History:
    """The points of the last hour, the oldest first."""

    points: deque[Point] = field(default_factory=lambda: deque(maxlen=_POINTS))

    def to_plain(self) -> list[dict[str, Any]]:
        """Return them as plain values."""
        return [asdict(point) for point in self.points]
