"""The service manager's watchdog, fed by progress and by nothing else.

A process that is there, and even an event loop that turns, is no evidence: engines hang while everything looks well. So
the ping is sent from the event loop, and only while what has work to do gets on with it. When pings stop, the service
manager ends the program (SIGABRT, whose handler prints every thread's stack) and starts it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.service.health import Health
from daemon.service.sdnotify import ServiceManager

PINGS_PER_LIMIT = 4  # sd_watchdog_enabled(3) advises two; a busy loop may miss one
_LONGEST_PAUSE_S = 5.0  # the status line is told as often


@dataclass
class _Watched:
    """Something that has work to do or not, and gets on with it or not."""

    name: str
    is_busy: Callable[[], bool]
    progress: Callable[[], int]
    limit_s: float
    _seen: int = -1
    _since_s: float = 0.0

    def stands_still_s(self, now_s: float) -> float:
        """Return for how long there has been work and no progress."""
        progress = self.progress()
        if progress != self._seen or not self.is_busy():
            self._seen, self._since_s = progress, now_s
        return now_s - self._since_s


@dataclass
class Watchdog:
    """Pings while the engine and the main loop are idle, say what they wait for, or make progress.

    The engine has ``stall_s`` for its next step; the main loop has the time that two windows may take to decode, where
    that is longer. The engine's own guard ends the program after as long and says more: this is for when that fails.
    """

    health: Health
    manager: ServiceManager
    stall_s: float
    decode_deadline_s: float
    clock: Callable[[], float] = time.monotonic
    stalled: str = ""  # what stands still, while pings are withheld
    _watched: list[_Watched] = field(default_factory=list)

    def __post_init__(self) -> None:
        health = self.health
        engine = _Watched(
            "the engine",
            lambda: health.metrics.requests > 0 and "engine" not in health.waiting_for(),
            lambda: health.engine.progress + health.rendering_steps(),
            self.stall_s,
        )
        loop = _Watched(
            "the main loop",
            lambda: health.in_flight() > 0 and not health.waiting_for(),
            health.steps,
            max(self.stall_s, 2 * self.decode_deadline_s),
        )
        self._watched = [engine, loop]

    @property
    def pause_s(self) -> float:
        """The seconds to wait between two looks."""
        limit_s = self.manager.watchdog_s
        return _LONGEST_PAUSE_S if limit_s is None else min(_LONGEST_PAUSE_S, limit_s / PINGS_PER_LIMIT)

    def look(self) -> bool:
        """Ping if there is reason to; return whether there was."""
        now_s = self.clock()
        still = [watched.name for watched in self._watched if watched.stands_still_s(now_s) >= watched.limit_s]
        self.stalled = " and ".join(still)
        if not still:
            self.manager.alive()
        return not still
