"""The bytes that decoded frames may take together, or the indices of clips."""

import asyncio
from collections import deque


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
