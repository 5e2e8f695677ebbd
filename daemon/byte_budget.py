"""A number of bytes that many may hold parts of: encoded clips and decoded frames come out of one budget."""

import asyncio
from collections import deque


class ByteBudget:
    """Grants reservations in the order in which they were asked for. For one event loop.

    ``encoded`` reservations (values, spooled clips) together stay within ``encoded_bytes``, so that frames, without
    which no clip ever ends, always find the rest. A reservation is granted whole or waits.
    """

    def __init__(self, limit_bytes: int, encoded_bytes: int | None = None) -> None:
        encoded_bytes = limit_bytes // 2 if encoded_bytes is None else encoded_bytes
        if not 0 <= encoded_bytes < limit_bytes:
            raise ValueError(f"encoded clips may take {encoded_bytes} of {limit_bytes} bytes")
        self.limit_bytes, self.encoded_limit_bytes = limit_bytes, encoded_bytes
        self.held_bytes = self.encoded_held_bytes = 0
        self._waiting: deque[tuple[int, bool, asyncio.Future[None]]] = deque()

    @property
    def frames_limit_bytes(self) -> int:
        """The largest reservation of frames that is certain to be granted some time."""
        return self.limit_bytes - self.encoded_limit_bytes

    def try_reserve(self, size_bytes: int, *, encoded: bool = False) -> bool:
        """Take the bytes now, or return False when they are not free or others wait."""
        if any(encoded or not waits_encoded for _, waits_encoded, _ in self._waiting):
            return False
        if not self._fits(size_bytes, encoded):
            return False
        self._take(size_bytes, encoded)
        return True

    async def reserve(self, size_bytes: int, *, encoded: bool = False) -> None:
        """Take the bytes, after those who asked before; ``ValueError`` when they can never be free."""
        if size_bytes > (self.encoded_limit_bytes if encoded else self.frames_limit_bytes):
            raise ValueError(f"{size_bytes:,} bytes are more than may be held at once")
        if self.try_reserve(size_bytes, encoded=encoded):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, encoded, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size_bytes, encoded=encoded)
            else:
                self._waiting.remove((size_bytes, encoded, granted))
                self._grant()
            raise

    def release(self, size_bytes: int, *, encoded: bool = False) -> None:
        """Give bytes back."""
        self.held_bytes -= size_bytes
        self.encoded_held_bytes -= size_bytes if encoded else 0
        if self.held_bytes < 0 or self.encoded_held_bytes < 0:
            raise ValueError("more bytes were given back than were taken")
        self._grant()

    def _fits(self, size_bytes: int, encoded: bool) -> bool:
        if encoded and self.encoded_held_bytes + size_bytes > self.encoded_limit_bytes:
            return False
        return self.held_bytes + size_bytes <= self.limit_bytes

    def _take(self, size_bytes: int, encoded: bool) -> None:
        self.held_bytes += size_bytes
        self.encoded_held_bytes += size_bytes if encoded else 0

    def _grant(self) -> None:
        """Grant in order. Encoded reservations that must wait let frames pass: only frames ever make room for them."""
        encoded_must_wait = False
        for waiting in list(self._waiting):
            size_bytes, encoded, granted = waiting
            if encoded and encoded_must_wait:
                continue
            if not self._fits(size_bytes, encoded):
                if not encoded:
                    return
                encoded_must_wait = True
                continue
            self._waiting.remove(waiting)
            if not granted.done():
                self._take(size_bytes, encoded)
                granted.set_result(None)
