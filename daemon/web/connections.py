"""Connections to the status server, bounded in number and in time: whoever reaches the port can't use up the daemon.

Descriptors are what a flood of connections takes from the sources and the decoders. So at most ``LIMIT`` connections
are open, and a new one ends the oldest: half requests and idle connections grow old, an answer takes milliseconds, so a
probe is answered while others hold the rest. None lives longer than ``LIFETIME_S``, whatever it waits for: its headers,
its next request, or a peer that does not read.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

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
        self._end = self.loop.call_later(LIFETIME_S, transport.abort)
        held = [one for one in self.connections if isinstance(one, BoundedConnection) and one.is_open]
        if len(held) > LIMIT:
            min(held, key=lambda one: one.opened_s).transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether nobody has begun to end it."""
        return not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end.cancel()
        super().connection_lost(exc)
