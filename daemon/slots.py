"""Slots for clips in flight: bounded, shared fairly between sources, and one clip alone in quarantine."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PUBLISHING = 2  # times the capacity: so many clips more may wait for their last publish, which needs no slot


class FairSlots:
    """At most ``capacity`` clips in flight, over all sources.

    A source below its share (``capacity / sources``) goes before one above it, then whoever came first: a backlog in
    one source can use every slot, and gives way to another source with the next one that falls free. A clip that asks
    to be alone waits until nothing else is in flight, and nothing else starts before it ends.

    A clip that only waits until its end is durable lends its slot, so that waiting for a commit holds up no work.
    """

    def __init__(self, capacity: int, sources: int) -> None:
        self.capacity = capacity
        self._share = max(1, capacity // max(1, sources))
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, bool, asyncio.Future[None]]] = []
        self._alone = False
        self._publishing = 0

    @property
    def in_flight(self) -> int:
        """How many clips hold a slot."""
        return self._held.total()

    async def acquire(self, source: str, *, alone: bool = False) -> None:
        """Wait for a slot; cancelling the wait gives nothing away."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((source, alone, turn))
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(source)
            else:
                self._waiting = [waiter for waiter in self._waiting if waiter[2] is not turn]
                self._grant()
            raise

    def release(self, source: str) -> None:
        """Give a slot back."""
        self._held[source] -= 1
        if self.in_flight == 0:
            self._alone = False
        self._grant()

    @contextmanager
    def lent(self, source: str) -> Iterator[None]:
        """Let others have a slot for a while. It is back at once after it, even where that makes one too many."""
        self.release(source)
        try:
            yield
        finally:
            self._held[source] += 1

    @contextmanager
    def publishing(self, source: str) -> Iterator[None]:
        """Lend the slot while a clip's end is made durable, unless it is alone or too many do so already."""
        if self._alone or self._publishing >= PUBLISHING * self.capacity:
            yield
            return
        self._publishing += 1
        try:
            with self.lent(source):
                yield
        finally:
            self._publishing -= 1

    def _grant(self) -> None:
        while self._waiting and not self._alone and self.in_flight < self.capacity:
            lonely = next((waiter for waiter in self._waiting if waiter[1]), None)
            if lonely is not None and (self.in_flight > 0 or self._publishing > 0):
                return  # its turn comes when the clips in flight have ended
            chosen = lonely or min(self._waiting, key=lambda waiter: self._held[waiter[0]] >= self._share)
            self._waiting.remove(chosen)
            source, alone, turn = chosen
            self._held[source] += 1
            self._alone = alone
            turn.set_result(None)
