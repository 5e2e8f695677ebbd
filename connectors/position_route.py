"""The route that every pair of source and sink can take: output first, then the position. At least once."""

from collections.abc import AsyncIterator

from connectors.contract import Delivery, Progress, Sink, Source
from connectors.file_media import confirm_unchanged


class PositionRoute:
    """Publishes to the sink, then settles with the source, which keeps the position."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self.name = source.name
        self.source, self._sink = source, sink

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries; each carries the position that the source kept."""
        return self.source.deliveries()

    async def publish(self, progress: Progress) -> None:
        """Make the captions, the rejection and the position durable.

        0. A clip that changed while it was read is :class:`Poison`, and nothing is written.
        1. The sink writes. 2. The source moves the position. A crash between the two repeats step 1 with the same ids.
        """
        await confirm_unchanged(progress)  # 0
        await self._sink.write(progress)  # 1
        await self.source.settle(progress)  # 2

    async def suspect(self, delivery: Delivery) -> None:
        """See :class:`connectors.contract.Source`."""
        await self.source.suspect(delivery)

    async def drain(self) -> None:
        """See :class:`connectors.contract.Source`."""
        await self.source.drain()

    async def close(self) -> None:
        """Close the source; the sink is closed by whoever made it."""
        await self.source.close()
