"""A route that can let go of its source, as at a stop, and be opened again."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

from connectors.contract import Delivery, Progress, Reporting, Route, StreamReport


class ReopenedRoute(Reporting):
    """A :class:`connectors.contract.Route` over routes that ``make`` makes, one after the other.

    Closing it gives back what is unfinished, so that any daemon may take it up, this one included.
    """

    def __init__(self, make: Callable[[], Route]) -> None:
        self._make, self._route = make, make()
        self.name = self._route.name
        self._is_closed = False
        self._counted_before: Counter[str] = Counter()

    @property
    def route(self) -> Route:
        """The route that is open, or was last."""
        return self._route

    @property
    def waiting_for(self) -> str:
        return "" if self._is_closed else self._route.waiting_for

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted since the start, over all openings."""
        return {event: count + self._counted_before[event] for event, count in self._route.counters.items()}

    @property
    def lag(self) -> Mapping[tuple[str, str], int]:
        """As the route says; while it is closed, as it said last."""
        return self._route.lag

    @property
    def held_bytes(self) -> int:
        return self._route.held_bytes

    @property
    def stream(self) -> StreamReport | None:
        return self._route.stream

    async def begin(self) -> None:
        await self._route.begin()

    def deliveries(self) -> AsyncIterator[Delivery]:
        return self._route.deliveries()

    async def publish(self, progress: Progress) -> None:
        """Publish through the route that the delivery came from: it is closed only after its last clip."""
        await self._route.publish(progress)

    async def quarantine(self, delivery: Delivery) -> None:
        await self._route.quarantine(delivery)

    async def drain(self) -> None:
        await self._route.drain()

    async def close(self) -> None:
        """Give back what is unfinished and let go."""
        if not self._is_closed:
            self._is_closed = True
            await self._route.close()

    def reopen(self) -> None:
        """Open it again, once it is closed."""
        self._counted_before.update(self._route.counters)
        self._route, self._is_closed = self._make(), False
