"""Standstills although the broker answers: partitions that can't be read, topics that are not there.

Each is told once when it has lasted and once when it is over, is among what the source waits for in between, and is
tried again after a pause that grows. Everything else goes on meanwhile.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

TELL_AFTER_S = 3.0  # a partition whose leader moves is without one for a moment
PAUSES_S = (
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)  # between tries, each of which may fetch a damaged batch again
OVER_AFTER_S = 10.0  # after the pause: the next try comes well within it
_NAMED = 3  # the first of many stand for all; each has its sentence in the log

What = str | tuple[str, int]  # a topic or a partition; equal to kafka-python's TopicPartition


@dataclass(slots=True)
class _Standstill:
    since_s: float
    tries: int = 0
    retry_at_s: float = 0.0
    why: str = ""
    is_told: bool = False


class Standstills:
    """The standstills of one source. The consumer thread notes them; any thread may read ``waiting_for``."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.waiting_for = ""
        self.begun = 0
        self._clock_s = clock_s
        self._lasting: dict[What, _Standstill] = {}

    def note(self, what: What, why: str) -> None:
        """Note that something could not be read just now, and why."""
        now_s = self._clock_s()
        held = self._lasting.setdefault(what, _Standstill(now_s))
        held.retry_at_s = now_s + PAUSES_S[min(held.tries, len(PAUSES_S) - 1)]
        held.tries += 1
        held.why = why
        if not held.is_told and now_s - held.since_s >= TELL_AFTER_S:
            held.is_told = True
            self.begun += 1
            log.warning("%s stands still: %s.", _name(what), why)
        self._summarize()

    def must_wait(self, what: What) -> bool:
        """Tell whether it is too early to try again."""
        held = self._lasting.get(what)
        return held is not None and self._clock_s() < held.retry_at_s

    def over(self, whats: Iterable[What]) -> None:
        """Note that these are read again, or are no longer this source's."""
        for what in whats:
            held = self._lasting.pop(what, None)
            if held is not None and held.is_told:
                log.info("%s goes on.", _name(what))
        self._summarize()

    def look(self) -> None:
        """Find those that are over: they were tried again since, and nothing was noted."""
        if self._lasting:
            now_s = self._clock_s()
            self.over([what for what, held in self._lasting.items() if now_s - held.retry_at_s > OVER_AFTER_S])

    def _summarize(self) -> None:
        told = [f"{_name(what)} ({held.why})" for what, held in self._lasting.items() if held.is_told]
        more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
        self.waiting_for = "; ".join(told[:_NAMED]) + more


def _name(what: What) -> str:
    return f"topic {what}" if isinstance(what, str) else "{}/{}".format(*what)
