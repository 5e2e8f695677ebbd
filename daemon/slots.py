"""Slots, bounded and by priority. Those for clips are shared fairly between sources, with one alone in quarantine."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

PUBLISHING = 2  # times the capacity: so many clips more may wait for their last publish, which needs no slot


_LIVE, _NORMAL, _BACKFILL = range(3)
_RANKS = {"live": _LIVE, "normal": _NORMAL, "backfill": _BACKFILL}
_ONE = 1 - 1e-9  # as sums of shares reach it


@dataclass(frozen=True, slots=True)
class Priorities:
    """Each source's priority by its name; normal where there is none. ``backfill_share`` is of the turns."""

    of: Mapping[str, str] = field(default_factory=dict)
    backfill_share: float = 0.0

    def rank(self, source: str) -> int:
        """Return a source's rank: the lower goes first."""
        return _RANKS[self.of.get(source, "normal")]

    def live(self) -> int:
        """Return how many sources are live."""
        return sum(priority == "live" for priority in self.of.values())


ALL_NORMAL = Priorities()


class Turns:
    """Decides whose turn it is: the lowest rank's, and now and then backfill's, so that it has its share."""

    def __init__(self, priorities: Priorities) -> None:
        self.priorities = priorities
        self._owed = 0.0  # turns of backfill that others had

    def next_rank(self, sources: Iterable[str], *, owes_backfill: bool = True) -> int:
        """Return the rank whose turn it is among sources that wait, and count the turn as given."""
        ranks = {self.priorities.rank(source) for source in sources}
        first = min(ranks)
        if _BACKFILL in ranks and first != _BACKFILL and owes_backfill:
            self._owed += self.priorities.backfill_share
            if self._owed >= _ONE:
                self._owed -= 1
                return _BACKFILL
        return first


class PrioritySlots:
    """At most ``capacity`` windows in the engine: by priority, of one priority source by source, and then in order.

    A source with a backlog may have dozens of clips in flight. If whoever came first went first, a window of a source
    that keeps up would wait behind one of each of them.
    """

    def __init__(self, capacity: int, priorities: Priorities = ALL_NORMAL) -> None:
        self._free, self._turns = capacity, Turns(priorities)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by source; some may be cancelled by now
        self._served: dict[str, int] = {}  # by source, the number of the turn that it had last
        self._turn = itertools.count(1)

    def locked(self) -> bool:
        """Whether whoever asks now has to wait."""
        return self._free <= 0

    async def acquire(self, source: str) -> None:
        """Wait for a slot; cancelling the wait gives nothing away."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(source, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back, or on to whose turn it is."""
        sources = self._who_waits()
        if not sources:
            self._free += 1
            return
        rank = self._turns.next_rank(sources)
        of_rank = (source for source in sources if self._turns.priorities.rank(source) == rank)
        chosen = min(of_rank, key=lambda source: self._served.get(source, 0))
        self._served[chosen] = next(self._turn)
        self._waiting[chosen].popleft().set_result(None)

    def _who_waits(self) -> list[str]:
        """Return the sources that wait, after forgetting who gave it up: looking at each waiter would cost too much."""
        for line in self._waiting.values():
            while line and line[0].done():
                line.popleft()
        return [source for source, line in self._waiting.items() if line]

    @asynccontextmanager
    async def held(self, source: str) -> AsyncIterator[None]:
        """Hold a slot for a while."""
        await self.acquire(source)
        try:
            yield
        finally:
            self.release()


class FairSlots:
    """At most ``capacity`` clips in flight, over all sources.

    Slots go to live sources first, and one for each of these is kept from all others, as far as half the slots last: a
    film may hold its own for hours. Backfill goes last, but has its share of turns until it holds that of the slots.

    A source below its share (``capacity / sources``) goes before one above it, then whoever came first: a backlog in
    one source can use every slot, and gives way to another source with the next one that falls free. A clip that asks
    to be alone waits until nothing else is in flight, and nothing else starts before it ends.

    A clip that only waits until its end is durable lends its slot, so that waiting for a commit holds up no work.
    """

    def __init__(self, capacity: int, sources: int, priorities: Priorities = ALL_NORMAL) -> None:
        self.capacity = capacity
        self._turns, self._ranked = Turns(priorities), priorities.rank
        self._for_all = capacity - min(priorities.live(), capacity // 2)
        self._for_backfill = max(1, int(capacity * priorities.backfill_share))
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
        self._waiting = [waiter for waiter in self._waiting if not waiter[2].done()]  # some may be cancelled by now
        while self._waiting and not self._alone and self.in_flight < self.capacity:
            lonely = next((waiter for waiter in self._waiting if waiter[1]), None)
            if lonely is not None and (self.in_flight > 0 or self._publishing > 0):
                return  # its turn comes when the clips in flight have ended
            chosen = lonely or self._next()
            if chosen is None:
                return
            self._waiting.remove(chosen)
            source, alone, turn = chosen
            self._held[source] += 1
            self._alone = alone
            turn.set_result(None)

    def _next(self) -> tuple[str, bool, asyncio.Future[None]] | None:
        """Return who has the next slot; None where those that are free are kept for live sources."""
        others = sum(held for source, held in self._held.items() if self._ranked(source) != _LIVE)
        may = [one for one in self._waiting if others < self._for_all or self._ranked(one[0]) == _LIVE]
        if not may:
            return None
        backfill = sum(held for source, held in self._held.items() if self._ranked(source) == _BACKFILL)
        owes = backfill < self._for_backfill
        rank = self._turns.next_rank((source for source, *_ in may), owes_backfill=owes)
        of_rank = (one for one in may if self._ranked(one[0]) == rank)
        return min(of_rank, key=lambda waiter: self._held[waiter[0]] >= self._share)
