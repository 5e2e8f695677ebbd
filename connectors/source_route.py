"""What every route leaves to its source: deliveries, suspicion, the drain and the end."""

from collections.abc import AsyncIterator

from connectors.contract import Delivery, Source


class SourceRoute:
    """A route but for its :meth:`connectors.contract.Route.publish`.

    What the source says of itself (what it waits for, its lag, what it holds) is read from :attr:`source`.
    """

    def __init__(self, source: Source) -> None:
        self.name, self.source = source.name, source

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries; each carries the position that the source kept."""
        return self.source.deliveries()

    async def suspect(self, delivery: Delivery) -> None:
        """See :class:`connectors.contract.Source`."""
        await self.source.suspect(delivery)

    async def drain(self) -> None:
        """See :class:`connectors.contract.Source`."""
        await self.source.drain()

    async def close(self) -> None:
        """Close the source; a sink is closed by whoever made it."""
        await self.source.close()
