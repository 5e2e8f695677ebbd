"""Connections to the status server, bounded in number and in time: whoever reaches the port can't use up the daemon.

Descriptors are what a flood of connections takes from the sources and the decoders. So at most ``LIMIT`` connections
are open, and a new one ends the oldest: half requests and idle connections grow old, an answer takes milliseconds, so a
probe is answered while others hold the rest. None lives longer than ``LIFETIME_S``, whatever it waits for: its headers,
its next request, or a peer that does not read.

Two kinds of answers take longer: events, which have no end, and files of clips. Their connections live on as long as
their peers read. They are bounded apart: readers of events by the feed, and files go to those who have the token.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

EVENTS, FILES = "/events", "/clips/"  # where long answers begin

LIMIT = 64  # what reads metrics is few
LIFETIME_S = 10.0  # far above what sending a request and reading an answer take
KEEP_ALIVE_S = 3  # between two requests; uvicorn takes whole seconds
BACKLOG = 16  # asyncio accepts so many at once before any of them can be ended again


class BoundedConnection(H11Protocol):
    """A connection that ends when there are too many newer ones, or when its time is over."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, at the cost of the oldest connection where there are too many."""
        super().connection_made(transport)
        self.opened_s = self.loop.time()
        self._has_not_read = False
        self._end = self.loop.call_later(LIFETIME_S, self._time_is_over)
        held = [one for one in self.connections if isinstance(one, BoundedConnection) and one.counts]
        if len(held) > LIMIT:
            min(held, key=lambda one: one.opened_s).transport.abort()

    def _time_is_over(self) -> None:
        """End, or for a long answer look again later; a peer that has taken nothing since the last look has had it."""
        stuck = self.flow.write_paused
        if not self._is_long or (stuck and self._has_not_read):
            self.transport.abort()
            return
        self._has_not_read = stuck
        self._end = self.loop.call_later(LIFETIME_S, self._time_is_over)

    @property
    def _is_long(self) -> bool:
        """Whether an answer is under way that may take long."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            return False
        path: str = cycle.scope["path"]
        return path == EVENTS or path.startswith(FILES)

    @property
    def counts(self) -> bool:
        """Whether it is one of those of which there are at most ``LIMIT``."""
        return self.is_open and not self._is_long

    @property
    def is_open(self) -> bool:
        """Whether nobody has begun to end it."""
        return not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end.cancel()
        super().connection_lost(exc)
