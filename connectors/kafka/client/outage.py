"""An outage of the broker, as one client sees it: how often it tried, since when nothing answers, and why."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

BACK_OFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # between tries; the last bounds how late the broker's return is seen
AWAY_AFTER_S = 3.0  # a coordinator that moves is unknown for a moment; only a longer one is an outage


class Outage:
    """Says once that a client waits for the broker and why, once that the broker is back, and how long to back off.

    One thread notes what happens; any thread may read ``reason``, which is empty while there is nothing to tell.
    ``explain`` finds out why no broker is reached; it returns nothing where one is.
    """

    def __init__(
        self, client: str, explain: Callable[[], str], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.reason = ""
        self._client, self._explain, self._clock_s = client, explain, clock_s
        self._tries = 0
        self._since_s: float | None = None

    @property
    def waiting_for(self) -> str:
        """What is waited for, for people; empty when nothing is."""
        return f"the broker: {self.reason}" if self.reason else ""

    def failed(self, fault: object) -> float:
        """Note that a try failed, and return how long to wait before the next. A first failure may pass by itself."""
        pause_s = BACK_OFF_S[min(self._tries, len(BACK_OFF_S) - 1)]
        self._tries += 1
        if self._tries > 1:
            self._tell(fault)
        return pause_s

    def unreachable(self, what: str) -> None:
        """Note that nobody answers now; it is an outage once it has lasted."""
        if self._since_s is None:
            self._since_s = self._clock_s()
        elif self._clock_s() - self._since_s > AWAY_AFTER_S and not self.reason:
            self._tries += 1
            self._tell(what)

    def reachable(self) -> None:
        """Note that the broker answers; whether a try succeeds is another matter."""
        if self.reason:
            log.info("%s: the broker is back.", self._client)
        self._since_s, self.reason = None, ""

    def succeeded(self) -> None:
        """Note that a try succeeded: the next failure is a first one again."""
        self._tries = 0

    def _tell(self, fault: object) -> None:
        reason = self._explain() or str(fault) or "nothing answers"
        if not self.reason:
            log.warning("%s waits for the broker: %s.", self._client, reason)
        if self._since_s is None:
            self._since_s = self._clock_s()
        self.reason = reason
